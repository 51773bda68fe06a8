"""Whom no configured channel reaches: a notice to them would be tried for a day, and never heard."""

from collections.abc import Collection

from registry.model import Person, Registry


def unreached(registry: Registry, channels: Collection[str]) -> list[Person]:
    """The people on the rota none of whose contacts uses one of these channels, by id."""
    on_rota = {duty.person for duty in registry.duty}
    return [
        person
        for id, person in sorted(registry.people.items())
        if id in on_rota and not any(contact.channel in channels for contact in person.contacts)
    ]


def warning(registry: Registry, channels: Collection[str]) -> str:
    """What to say of them, and how to mend it; "" if everyone can be reached."""
    people = unreached(registry, channels)
    if not people:
        return ""
    names = ", ".join(f"{person.name} ({person.id})" for person in people[:5])
    more = f" and {len(people) - 5} more" if len(people) > 5 else ""
    wanted = ", ".join(sorted({contact.channel for person in people for contact in person.contacts}))
    return (
        f"no notice can reach {len(people)} of the people on duty: {names}{more}. "
        f"Configure a channel that their contacts use ({wanted}) under `channels:` in the settings."
    )
