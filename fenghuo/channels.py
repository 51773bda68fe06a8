"""The channels that the settings name, opened."""

from alerting.channels import Channel, ChannelSettings, HttpChannel
from fenghuo.settings import Settings


def open_channels(settings: Settings) -> dict[str, Channel]:
    """The channels that the settings name. Raises ChannelError, which says what is wrong with one."""
    return {
        name: HttpChannel.open(
            ChannelSettings(
                name=name,
                base=channel.url,
                secret_file=str(channel.secret_file or ""),
                secret_env=channel.secret_env,
            )
        )
        for name, channel in settings.channels.items()
    }
