"""Grafana's dashboards, written as code: `python -m deploy.grafana.build [--check]`.

What they show stands in `boards.py`. The files are checked in, so that nobody needs the SDK to use them,
and a test fails when one is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.boards import BOARDS, Board, List, Number, Panel, Q

HERE = Path(__file__).parent
SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
TAG = "interpretops"


def build(board: Board) -> str:
    """The dashboard as Grafana reads it."""
    made = (
        Dashboard(f"InterpretOps / {board.title}")
        .uid(f"interpretops-{board.name}")
        .description(board.what)
        .tags([TAG])
        .refresh("30s")
        .time("now-6h", "now")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            DashboardLink("InterpretOps")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    for title, panels in board.rows.items():
        made = made.with_row(Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def _panel(panel: Panel) -> Any:
    if isinstance(panel, List):
        made: Any = table.Panel().with_target(
            _query(panel.query).ref_id("A").instant().format(PromQueryFormat.TABLE)
        )
        return made.title(panel.title).datasource(SOURCE).span(panel.width).height(7)
    if isinstance(panel, Number):
        made = (
            stat.Panel()
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .with_target(_query(panel.query).ref_id("A").instant())
            .height(4)
        )
    else:
        made = (
            timeseries.Panel()
            .fill_opacity(8)
            .legend(
                common.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
            .height(7)
        )
        for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
            made = made.with_target(_query(query).ref_id(letter))
        if panel.limit is not None or panel.floor is not None:
            made = made.thresholds_style(
                common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
            )
    made = made.title(panel.title).unit(panel.unit).datasource(SOURCE).span(panel.width)
    if panel.what:
        made = made.description(panel.what)
    if panel.limit is not None or panel.floor is not None:
        made = made.thresholds(_thresholds(panel.limit, panel.floor))
    return made


def _query(query: Q) -> Any:
    made = prometheus.Dataquery().expr(query.expr)
    return made.legend_format(query.legend) if query.legend else made


def _thresholds(limit: float | None, floor: float | None) -> ThresholdsConfig:
    steps = [Threshold(value=None, color="green" if limit is not None else "red")]
    if limit is not None:
        # A limit of nothing is passed by the first one.
        steps.append(Threshold(value=limit or 0.5, color="red"))
    elif floor is not None:
        steps.append(Threshold(value=floor, color="green"))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def main() -> int:
    """Write the boards, or with `--check` say which are stale."""
    stale = []
    for board in BOARDS:
        path, text = HERE / f"{board.name}.json", build(board)
        if "--check" in sys.argv:
            stale += [path.name] if not path.exists() or path.read_text() != text else []
        else:
            path.write_text(text)
    if stale:
        print(f"stale: {', '.join(stale)}; run python -m deploy.grafana.build")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
