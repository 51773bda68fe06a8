"""What a dashboard is made of: data sources, queries, variables, panels, and the board that lays them out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from string import ascii_uppercase

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

from dashboards.pieces import TIERS, filled

TAG = "fenghuo"
"""Marks our dashboards, and begins the uid of all that is ours."""

NAME = "烽火 · Fenghuo"
"""Of the folder, and of the menu by which one goes from one dashboard to another."""

WIDTH = 24
"""Columns of Grafana's grid."""

Steps = Sequence[tuple[float | None, str]]
"""Colours by value: each from its value on, the first from None (whatever is lower)."""


class Source(Enum):
    """A data source, by type and uid; each organisation of Grafana has those that it may read."""

    HISTORY = ("influxdb", "fenghuo-history")
    ALERTS = ("postgres", "fenghuo-alerts")
    SYSTEM = ("prometheus", "fenghuo-system")

    @property
    def type(self) -> str:
        return self.value[0]

    @property
    def uid(self) -> str:
        return self.value[1]

    @property
    def ref(self) -> model.DataSourceRef:
        return model.DataSourceRef(type_val=self.type, uid=self.uid)


MIXED = model.DataSourceRef(type_val="datasource", uid="-- Mixed --")

# ---- queries ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """One query of a panel. fields: what Grafana's data source of this type wants beside refId and datasource."""

    source: Source
    fields: Mapping[str, object]

    def named(self, ref: str) -> Builder[UnknownDataquery]:
        return _Target({"refId": ref, "datasource": self.source.ref.to_json(), **self.fields})


class _Target(Builder[UnknownDataquery]):
    def __init__(self, fields: dict[str, object]) -> None:
        self._fields = fields

    def build(self) -> UnknownDataquery:
        return UnknownDataquery(self._fields)


def rows(sql: str, **given: str) -> Query:
    """Rows of PostgreSQL, for a table or for numbers. given: see ``filled``."""
    return _sql(sql, "table", given)


def series(sql: str, **given: str) -> Query:
    """Series of PostgreSQL: columns time, metric (their names) and value, or one column for each, ordered by time."""
    return _sql(sql, "time_series", given)


def _sql(sql: str, format: str, given: Mapping[str, str]) -> Query:
    fields = {"rawSql": filled(sql, given), "rawQuery": True, "editorMode": "code", "format": format}
    return Query(Source.ALERTS, fields)


def flux(text: str, **given: str) -> Query:
    """Flux over the history's bucket, which the data source names. given: see ``filled``."""
    return Query(Source.HISTORY, {"query": filled(text, given)})


def promql(expression: str, legend: str) -> Query:
    """A course of Prometheus. legend: {{label}} stands for a label's value."""
    fields = {"expr": expression, "legendFormat": legend, "editorMode": "code", "range": True}
    return Query(Source.SYSTEM, fields)


# ---- panels ----------------------------------------------------------------------------------------

Override = Mapping[str, object]
"""Properties of a field, by Grafana's name of them: "unit", "links", "custom.width"."""


@dataclass(frozen=True)
class Look:
    """How the values of a panel are shown.

    steps: colours by value; tiers: it shows numbers of tiers; fields: more, by the name of a field or a /regex/.
    """

    unit: str = ""
    steps: Steps = ()
    tiers: bool = False
    fields: Mapping[str, Override] | None = None
    minimum: float | None = None
    decimals: int | None = None

    def config(self) -> model.FieldConfigSource:
        return model.FieldConfigSource(
            defaults=model.FieldConfig(
                unit=self.unit or None,
                min_val=self.minimum,
                decimals=self.decimals,
                mappings=[tier_names()] if self.tiers else None,
                thresholds=_thresholds(self.steps) if self.steps else None,
                color=model.FieldColor(
                    mode=model.FieldColorModeId.THRESHOLDS
                    if self.steps or self.tiers
                    else model.FieldColorModeId.PALETTE_CLASSIC
                ),
            ),
            overrides=[_override(name, one) for name, one in (self.fields or {}).items()],
        )


def _thresholds(steps: Steps) -> model.ThresholdsConfig:
    found = [model.Threshold(value=value, color=color) for value, color in steps]
    return model.ThresholdsConfig(mode=model.ThresholdsMode.ABSOLUTE, steps=found)


def _override(name: str, properties: Override) -> model.DashboardFieldConfigSourceOverrides:
    by = "byRegexp" if name.startswith("/") else "byName"
    return model.DashboardFieldConfigSourceOverrides(
        matcher=model.MatcherConfig(id_val=by, options=name),
        properties=[model.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()],
    )


def tier_names() -> model.ValueMap:
    """The numbers of tiers as people read them, in their colours; 0 is none."""
    named = {str(number): (f"{name}级", color) for number, (name, color) in TIERS.items()}
    return names({"0": ("正常 · normal", "green")} | named)


def names(words: Mapping[str, tuple[str, str]]) -> model.ValueMap:
    """A mapping of values: for each its text and its colour."""
    return model.ValueMap(
        options={
            value: model.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(words.items())
        }
    )


COLOURED: Override = {
    "custom.cellOptions": {"type": "color-text"},
    "custom.displayMode": "color-text",  # its name up to Grafana 9.4; later ones pass over it
}
"""A table's cell whose text has the colour of its value."""


def coloured(mapping: model.ValueMap) -> Override:
    """A table's cell that shows a value by this mapping, in its colour."""
    return {"mappings": [mapping.to_json()], **COLOURED}


def numbers() -> Builder[model.Panel]:
    """Large numbers, one for each column of a row, or the newest of each series."""
    return (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .graph_mode(options.BigValueGraphMode.NONE)
        .color_mode(options.BigValueColorMode.VALUE)
        .orientation(options.VizOrientation.AUTO)
    )


def bars() -> Builder[model.Panel]:
    """Horizontal bars, one for each column of a row, or the newest of each series."""
    return (
        bargauge.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .display_mode(options.BarGaugeDisplayMode.BASIC)
        .orientation(options.VizOrientation.HORIZONTAL)
    )


def list_() -> Builder[model.Panel]:
    """A table."""
    return table.Panel().show_header(True)


def joined(field: str) -> Builder[model.Panel]:
    """A table of several queries, which have this column in common."""
    how = model.DataTransformerConfig(id_val="joinByField", options={"byField": field, "mode": "outer"})
    return table.Panel().show_header(True).with_transformation(how)


def course(*, bars: bool = False) -> Builder[model.Panel]:
    """Values over time, as lines or as stacked bars."""
    panel = (
        timeseries.Panel()
        .legend(common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
        .show_points(options.VisibilityMode.AUTO)
        .line_width(1)
    )
    if bars:
        panel.draw_style(options.GraphDrawStyle.BARS).fill_opacity(80)
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    return panel


def states() -> Builder[model.Panel]:
    """Which state held when, a row for each series."""
    panel = statetimeline.Panel().merge_values(True).line_width(0).fill_opacity(70)
    return panel.legend(common.VizLegendOptions().show_legend(False))


# ---- the board -------------------------------------------------------------------------------------


class Board:
    """A dashboard that is being put together. What the organisation has no data source for is left out.

    Args:
        uid: after "fenghuo-". title, description: Chinese and English.
        sources: that the organisation has.
        span: how far back it looks at first, such as "6h". refresh: how often it asks anew.
    """

    def __init__(
        self, uid: str, title: str, description: str, sources: Iterable[Source], *, span: str, refresh: str
    ) -> None:
        self._sources = frozenset(sources)
        self._x = self._y = self._height = self._panels = 0
        others = (
            build.DashboardLink(NAME)
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        self._dashboard = (
            build.Dashboard(title)
            .uid(f"{TAG}-{uid}")
            .description(description)
            .tags([TAG])
            .timezone("browser")
            .time(f"now-{span}", "now")
            .refresh(refresh)
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .link(others)
        )

    def variable(
        self,
        name: str,
        label: str,
        sql: str,
        *,
        all: bool = False,
        every: str = "",
        hidden: bool = False,
        **given: str,
    ) -> None:
        """A choice from rows of PostgreSQL with __text and __value, or one column for both.

        Of rows with the same text Grafana shows one only. The menu brings what is chosen to other dashboards by the
        variable's name: where the same name is used again, it is of the same kind.

        Args:
            all: several can be chosen, and at first all are. every: what stands for all of them, as it is, in
                place of a list of them. hidden: nobody sees it.
            given: see ``filled``.
        """
        variable = (
            build.QueryVariable(name)
            .label(label)
            .query(filled(sql, given))
            .datasource(Source.ALERTS.ref)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)  # and each time the dashboard asks anew
            .sort(model.VariableSort.DISABLED)
            .include_all(all)
            .multi(all)
            .hide(model.VariableHide.HIDE_VARIABLE if hidden else model.VariableHide.DONT_HIDE)
        )
        if every:
            variable.all_value(every)
        if all:
            variable.current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
        self._dashboard.with_variable(variable)

    def annotate(self, sql: str, **given: str) -> None:
        """Marks of alerts, each in its tier's colour.

        Args:
            sql: time, timeend, text and tags, of those of <tier>. given: see ``filled``.
        """
        for number, (name, color) in TIERS.items():
            annotation = (
                build.AnnotationQuery()
                .name(f"{name}级警报 · Tier {name} alerts")
                .datasource(Source.ALERTS.ref)
                .enable(True)
                .icon_color(color)
            )
            annotation.build().target = _Marks(rows(sql, tier=str(number), **given))
            self._dashboard.annotation(annotation)

    def add(
        self,
        panel: Builder[model.Panel],
        title: str,
        description: str,
        *queries: Query,
        look: Look | None = None,
        width: int = 12,
        height: int = 8,
    ) -> None:
        """Put a panel beside the one before, or below where there is no room."""
        asked = {query.source for query in queries}
        if not asked <= self._sources:
            return
        self._panels += 1
        if self._x + width > WIDTH:
            self._x, self._y, self._height = 0, self._y + self._height, 0
        built = panel.build()
        built.id_val = self._panels
        built.title, built.description = title, description
        built.datasource = asked.pop().ref if len(asked) == 1 else MIXED
        built.targets = [query.named(ascii_uppercase[n]).build() for n, query in enumerate(queries)]
        built.grid_pos = model.GridPos(x=self._x, y=self._y, w=width, h=height)
        custom = (
            built.field_config.defaults.custom if built.field_config and built.field_config.defaults else None
        )
        built.field_config = (look or Look()).config()
        if built.field_config.defaults is not None:
            built.field_config.defaults.custom = custom
        self._x += width
        self._height = max(self._height, height)
        self._dashboard.with_panel(_Built(built))

    def build(self) -> model.Dashboard:
        return self._dashboard.build()


class _Built(Builder[model.Panel]):
    def __init__(self, panel: model.Panel) -> None:
        self._panel = panel

    def build(self) -> model.Panel:
        return self._panel


class _Marks(model.AnnotationTarget):
    """The SDK knows the target of Grafana's own annotations only; that of a SQL data source is a query."""

    def __init__(self, query: Query) -> None:
        super().__init__(
            limit=100, match_any=False, tags=[], type_val="dashboard"
        )  # all of them required, and unused
        self._query = {"refId": "Anno", **query.fields}

    def to_json(self) -> dict[str, object]:
        return super().to_json() | self._query
