"""The boards: what is shown, and what is asked of Prometheus for it."""

from __future__ import annotations

from dataclasses import dataclass

I = "interpretops_"  # noqa: E741 - the namespace, written very often below


@dataclass(frozen=True)
class Q:
    """A question to Prometheus, and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Graph:
    """Lines over time.

    Attributes:
        title: What is shown.
        queries: What is asked.
        unit: Grafana's name of the unit.
        what: What one should know when reading it.
        limit: A line that values should stay below.
        floor: A line that values should stay above.
        width: In 24ths of the page.
    """

    title: str
    queries: tuple[Q, ...]
    unit: str = "short"
    what: str = ""
    limit: float | None = None
    floor: float | None = None
    width: int = 8


@dataclass(frozen=True)
class Number:
    """One figure, as it is now, and whether it is good."""

    title: str
    query: Q
    unit: str = "short"
    what: str = ""
    limit: float | None = None
    floor: float | None = None
    width: int = 4


@dataclass(frozen=True)
class List:
    """A table of what is now, one row for each series."""

    title: str
    query: Q
    what: str = ""
    width: int = 12


Panel = Graph | Number | List


@dataclass(frozen=True)
class Board:
    """A dashboard.

    Attributes:
        name: Of its file, and its address in Grafana.
        title: What it is called.
        what: What it is for.
        rows: Rows of panels, by their titles.
    """

    name: str
    title: str
    what: str
    rows: dict[str, tuple[Panel, ...]]


def quantile(share: float, name: str, by: str = "", where: str = "") -> str:
    """A quantile of a histogram over five minutes."""
    groups = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, sum by ({groups}) (rate({I}{name}_bucket{where}[5m])))"


FLEET = Board(
    "fleet",
    "Fleet",
    "Every program: whether it answers, what it takes, what it serves.",
    {
        "Programs": (
            Number("Programs that answer", Q("sum(up)")),
            Number("Programs that do not", Q("count(up == 0) or vector(0)"), limit=0),
            Number("Policies in production", Q(f"max({I}policies_active_count)")),
            Number(
                "Open alarms",
                Q(f"sum(max by (kind, acknowledged) ({I}alarms_open_count))"),
                limit=0,
            ),
            Number("Jobs that run", Q(f"sum(max by (kind) ({I}jobs_running_count))")),
            Number("Requests in flight", Q(f"sum({I}http_requests_in_flight_count)")),
            Graph(
                "Answering",
                (Q("min by (job) (up)", "{{job}}"),),
                what="0 is a program that is down.",
            ),
            Graph(
                "Memory", (Q("sum by (job) (process_resident_memory_bytes)", "{{job}}"),), "bytes"
            ),
            Graph(
                "Processor",
                (Q("sum by (job) (rate(process_cpu_seconds_total[5m]))", "{{job}}"),),
                "short",
                "Cores in use.",
            ),
            Graph("Open files", (Q("max by (job) (process_open_fds)", "{{job}}"),)),
            Graph(
                "Calls between programs",
                (Q(f"sum by (job) (rate({I}rpc_server_handled_total[5m]))", "{{job}}"),),
                "reqps",
            ),
            Graph(
                "Calls that failed",
                (
                    Q(
                        f'sum by (job, code) (rate({I}rpc_server_handled_total{{code=~"INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|UNKNOWN"}}[5m]))',
                        "{{job}} {{code}}",
                    ),
                ),
                "reqps",
            ),
        ),
    },
)

QUALITY = Board(
    "steering-quality",
    "Steering quality",
    "What the newest Risk Card of each policy in production says, and what steering costs now.",
    {
        "On the newest Risk Card": (
            Number(
                "Worst defense efficacy",
                Q(f"min({I}policy_defense_efficacy_ratio)"),
                "percentunit",
                "DE: share of successful attacks that is averted. Win line: at least 50 %.",
                floor=0.5,
                width=6,
            ),
            Number(
                "Worst collateral damage",
                Q(f"max({I}policy_collateral_damage_ratio)"),
                "percentunit",
                "CD: loss on ordinary use. Win line: at most 5 %.",
                limit=0.05,
                width=6,
            ),
            Number(
                "Worst circuit stability",
                Q(f"min({I}policy_circuit_stability_ratio)"),
                "percentunit",
                "CS: overlap of the circuit over resamples. Win line: at least 0.6.",
                floor=0.6,
                width=6,
            ),
            Number(
                "Worst latency overhead",
                Q(f"max({I}policy_latency_overhead_ratio)"),
                "percentunit",
                "LCO, as measured on the card. Win line: at most 20 %.",
                limit=0.2,
                width=6,
            ),
            Graph(
                "Defense efficacy",
                (Q(f"min by (policy) ({I}policy_defense_efficacy_ratio)", "{{policy}}"),),
                "percentunit",
                floor=0.5,
            ),
            Graph(
                "Collateral damage",
                (Q(f"max by (policy) ({I}policy_collateral_damage_ratio)", "{{policy}}"),),
                "percentunit",
                limit=0.05,
            ),
            Graph(
                "Over-refusal canary",
                (Q(f"max by (policy) ({I}policy_over_refusal_ratio)", "{{policy}}"),),
                "percentunit",
                "Share of harmless prompts that only look risky and are refused.",
            ),
            Graph(
                "Rise of degenerate answers",
                (Q(f"max by (policy) ({I}policy_degeneration_rise_ratio)", "{{policy}}"),),
                "percentunit",
            ),
            Graph(
                "Age of the evidence",
                (Q(f"max by (policy) ({I}policy_evidence_age_seconds)", "{{policy}}"),),
                "s",
                limit=7 * 86400,
            ),
            Graph(
                "Canaries begun",
                (Q(f"sum(increase({I}canaries_submitted_total[1d]))", "in a day"),),
            ),
        ),
        "Now": (
            Graph(
                "Overhead of policies",
                (
                    Q(
                        f"sum(rate({I}generation_steering_seconds_total[5m])) / (sum(rate({I}generation_forward_seconds_total[5m])) - sum(rate({I}generation_steering_seconds_total[5m])))",
                        "of forwards",
                    ),
                ),
                "percentunit",
                limit=0.2,
            ),
            Graph(
                "Requests that a policy acted on",
                (
                    Q(
                        f'sum(rate({I}policy_decisions_total{{fired="yes"}}[5m])) / sum(rate({I}policy_decisions_total[5m]))',
                        "acted",
                    ),
                ),
                "percentunit",
            ),
            Graph(
                "Answers that a policy in shadow would change",
                (
                    Q(
                        f'sum(rate({I}policy_shadow_answers_total{{changed="yes"}}[5m])) / sum(rate({I}policy_shadow_answers_total[5m]))',
                        "changed",
                    ),
                ),
                "percentunit",
            ),
            Graph(
                "Requests",
                (
                    Q(
                        f"sum by (mode, outcome) (rate({I}generation_requests_total[5m]))",
                        "{{mode}} {{outcome}}",
                    ),
                ),
                "reqps",
            ),
            Graph(
                "Time to first token",
                (
                    Q(
                        quantile(0.5, "generation_time_to_first_token_seconds", "mode"),
                        "{{mode}} median",
                    ),
                    Q(
                        quantile(0.95, "generation_time_to_first_token_seconds", "mode"),
                        "{{mode}} 95 %",
                    ),
                ),
                "s",
                limit=2.5,
            ),
            Graph(
                "Tokens",
                (Q(f"sum by (kind) (rate({I}generation_tokens_total[5m]))", "{{kind}}"),),
                "short",
                "Tokens computed in a second.",
            ),
            Graph(
                "Rows that run together",
                (
                    Q(quantile(0.5, "generation_rows_count"), "median"),
                    Q(quantile(0.95, "generation_rows_count"), "95 %"),
                ),
            ),
            Graph(
                "Wait for a place", (Q(quantile(0.95, "generation_queue_seconds"), "95 %"),), "s"
            ),
            Graph("Requests that wait", (Q(f"sum({I}generation_waiting_count)", "waiting"),)),
            Graph("Policies kept ready", (Q(f"sum({I}policies_resident_count)", "ready"),)),
            Graph(
                "Time to make a policy ready",
                (Q(quantile(0.95, "policy_load_seconds"), "95 %"),),
                "s",
            ),
        ),
    },
)

DRIFT = Board(
    "drift",
    "Drift",
    "Whether policies in production still see what they were fitted on.",
    {
        "Policies": (
            Number(
                "Policies that drifted",
                Q(f"count(max by (policy) ({I}policy_drift_level) >= 2) or vector(0)"),
                limit=0,
                width=6,
            ),
            Number(
                "To be looked at",
                Q(f"count(max by (policy) ({I}policy_drift_level) == 1) or vector(0)"),
                limit=0,
                width=6,
            ),
            Number(
                "Last comparison",
                Q(f"time() - max({I}drift_compared_timestamp_seconds)"),
                "s",
                limit=900,
                width=6,
            ),
            Number(
                "Unacknowledged alarms",
                Q(f'sum(max by (kind) ({I}alarms_open_count{{acknowledged="no"}}))'),
                limit=0,
                width=6,
            ),
            Graph(
                "Verdict",
                (Q(f"max by (policy) ({I}policy_drift_level)", "{{policy}}"),),
                what="0 stable or too few requests, 1 look at it, 2 drifted.",
                limit=2,
            ),
            Graph(
                "Scores: population stability index",
                (Q(f"max by (policy) ({I}policy_score_psi_ratio)", "{{policy}}"),),
                "short",
                "Against the reference. From 0.1 on look, from 0.25 on it is drift.",
                limit=0.25,
            ),
            Graph(
                "Scores: Kolmogorov-Smirnov distance",
                (Q(f"max by (policy) ({I}policy_score_ks_ratio)", "{{policy}}"),),
            ),
            Graph(
                "Share of requests acted on",
                (Q(f"max by (policy) ({I}policy_firing_ratio)", "{{policy}}"),),
                "percentunit",
            ),
            Graph(
                "Change of that share",
                (Q(f"max by (policy) ({I}policy_firing_change_ratio)", "{{policy}}"),),
                "percentunit",
                limit=0.05,
            ),
            Graph(
                "Largest change of a feature's firing rate",
                (Q(f"max by (policy) ({I}policy_feature_change_ratio)", "{{policy}}"),),
                "percentunit",
                limit=0.1,
            ),
        ),
        "Traffic": (
            Graph(
                "Requests in the window",
                (Q(f"max by (policy) ({I}policy_window_requests_count)", "{{policy}}"),),
            ),
            Graph(
                "Requests counted",
                (Q(f"sum(rate({I}traffic_requests_total[5m]))", "a second"),),
                "reqps",
            ),
            Graph(
                "Time to write counts", (Q(quantile(0.95, "traffic_write_seconds"), "95 %"),), "s"
            ),
            Graph(
                "Counts that were lost",
                (Q(f"sum(increase({I}traffic_windows_lost_total[1h]))", "hours of policies"),),
                limit=0,
            ),
            Graph(
                "Open alarms",
                (
                    Q(
                        f"max by (kind, acknowledged) ({I}alarms_open_count)",
                        "{{kind}}, acknowledged: {{acknowledged}}",
                    ),
                ),
            ),
        ),
    },
)

JOBS = Board(
    "jobs",
    "Jobs and queues",
    "What waits, what runs, how long it takes and how it ends.",
    {
        "Queues": (
            Graph("Waiting", (Q(f"max by (kind) ({I}jobs_waiting_count)", "{{kind}}"),)),
            Graph("Running", (Q(f"max by (kind) ({I}jobs_running_count)", "{{kind}}"),)),
            Graph(
                "Age of the oldest that waits",
                (Q(f"max by (kind) ({I}jobs_oldest_waiting_seconds)", "{{kind}}"),),
                "s",
                limit=1800,
            ),
            Graph("Hints that no broker has taken", (Q(f"max({I}outbox_unsent_count)", "unsent"),)),
            Graph(
                "Age of the oldest such hint",
                (Q(f"max({I}outbox_lag_seconds)", "lag"),),
                "s",
                limit=60,
            ),
            Graph(
                "Leases that expired",
                (Q(f"sum by (outcome) (increase({I}leases_expired_total[30m]))", "{{outcome}}"),),
            ),
        ),
        "Attempts": (
            Graph(
                "Ended",
                (
                    Q(
                        f"sum by (kind, outcome) (increase({I}job_attempts_total[1h]))",
                        "{{kind}} {{outcome}}",
                    ),
                ),
                what="In an hour.",
            ),
            Graph(
                "Failed",
                (
                    Q(
                        f'sum by (kind) (rate({I}job_attempts_total{{outcome="failed"}}[1h])) / sum by (kind) (rate({I}job_attempts_total[1h]))',
                        "{{kind}}",
                    ),
                ),
                "percentunit",
                limit=0.3,
            ),
            Graph(
                "Time, median",
                (
                    Q(
                        quantile(0.5, "job_attempt_duration_seconds", "kind").replace(
                            "[5m]", "[1h]"
                        ),
                        "{{kind}}",
                    ),
                ),
                "s",
            ),
            Graph(
                "Time, 95 %",
                (
                    Q(
                        quantile(0.95, "job_attempt_duration_seconds", "kind").replace(
                            "[5m]", "[1h]"
                        ),
                        "{{kind}}",
                    ),
                ),
                "s",
            ),
        ),
    },
)

GPU = Board(
    "gpu",
    "GPU",
    "Accelerators, as dcgm-exporter and the programs that use them see them.",
    {
        "By device (dcgm-exporter)": (
            Graph(
                "Utilisation",
                (Q("DCGM_FI_DEV_GPU_UTIL / 100", "{{Hostname}} {{gpu}}"),),
                "percentunit",
            ),
            Graph(
                "Tensor cores busy",
                (Q("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "{{Hostname}} {{gpu}}"),),
                "percentunit",
            ),
            Graph(
                "Memory in use",
                (
                    Q(
                        "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
                        "{{Hostname}} {{gpu}}",
                    ),
                ),
                "percentunit",
                limit=0.95,
            ),
            Graph(
                "Temperature",
                (Q("DCGM_FI_DEV_GPU_TEMP", "{{Hostname}} {{gpu}}"),),
                "celsius",
                limit=87,
            ),
            Graph("Power", (Q("DCGM_FI_DEV_POWER_USAGE", "{{Hostname}} {{gpu}}"),), "watt"),
            Graph("Faults (XID)", (Q("DCGM_FI_DEV_XID_ERRORS", "{{Hostname}} {{gpu}}"),)),
        ),
        "By program": (
            Graph(
                "Held by tensors",
                (
                    Q(
                        f'sum by (job, instance) ({I}accelerator_memory_bytes{{kind="allocated"}})',
                        "{{job}} {{instance}}",
                    ),
                ),
                "bytes",
                width=12,
            ),
            Graph(
                "Reserved",
                (
                    Q(
                        f'sum by (job, instance) ({I}accelerator_memory_bytes{{kind="reserved"}})',
                        "{{job}} {{instance}}",
                    ),
                ),
                "bytes",
                width=12,
            ),
        ),
    },
)

API = Board(
    "api",
    "API",
    "The edge: rate, errors and duration of every route, and its budget of failures.",
    {
        "All routes": (
            Number(
                "Requests a second", Q(f"sum(rate({I}http_requests_total[5m]))"), "reqps", width=6
            ),
            Number(
                "Failures (5xx)",
                Q("interpretops:edge_errors:ratio_rate5m"),
                "percentunit",
                limit=0.001,
                width=6,
            ),
            Number(
                "95 % answered within",
                Q(quantile(0.95, "http_request_duration_seconds")),
                "s",
                width=6,
            ),
            Number(
                "Budget left (30 days)",
                Q("1 - interpretops:edge_errors:ratio_rate3d / 0.001"),
                "percentunit",
                "Extrapolated from the last three days.",
                floor=0,
                width=6,
            ),
            Graph(
                "Rate by status",
                (Q(f"sum by (status) (rate({I}http_requests_total[5m]))", "{{status}}"),),
                "reqps",
            ),
            Graph(
                "Failures over windows",
                (
                    Q("interpretops:edge_errors:ratio_rate5m", "5 min"),
                    Q("interpretops:edge_errors:ratio_rate1h", "1 h"),
                    Q("interpretops:edge_errors:ratio_rate6h", "6 h"),
                ),
                "percentunit",
                limit=0.0144,
            ),
            Graph(
                "Duration",
                (
                    Q(quantile(0.5, "http_request_duration_seconds"), "median"),
                    Q(quantile(0.95, "http_request_duration_seconds"), "95 %"),
                    Q(quantile(0.99, "http_request_duration_seconds"), "99 %"),
                ),
                "s",
            ),
        ),
        "By route": (
            Graph(
                "Rate",
                (Q(f"topk(10, sum by (route) (rate({I}http_requests_total[5m])))", "{{route}}"),),
                "reqps",
            ),
            Graph(
                "Errors",
                (
                    Q(
                        f'topk(10, sum by (route, status) (rate({I}http_requests_total{{status=~"4xx|5xx"}}[5m])) > 0)',
                        "{{route}} {{status}}",
                    ),
                ),
                "reqps",
            ),
            Graph(
                "Duration, 95 %",
                (
                    Q(
                        "topk(10, "
                        + quantile(0.95, "http_request_duration_seconds", "route")
                        + ")",
                        "{{route}}",
                    ),
                ),
                "s",
            ),
        ),
        "Behind it": (
            Graph(
                "Calls, 95 %",
                (
                    Q(
                        "topk(10, " + quantile(0.95, "rpc_server_duration_seconds", "method") + ")",
                        "{{method}}",
                    ),
                ),
                "s",
                width=12,
            ),
            Graph(
                "Calls being served",
                (Q(f"sum by (job) ({I}rpc_server_in_flight_count)", "{{job}}"),),
                width=12,
            ),
        ),
    },
)

AUDIT = Board(
    "audit",
    "Audit",
    "What is written to audit logs, and whether they are the ones that were written.",
    {
        "Chains": (
            Number("Broken chains", Q(f"max({I}audit_broken_chains_count)"), limit=0, width=8),
            Number(
                "Since they were walked and anchored",
                Q(f"time() - max({I}audit_anchored_timestamp_seconds)"),
                "s",
                limit=6 * 3600,
                width=8,
            ),
            Number(
                "Since evidence was looked at",
                Q(f"time() - max({I}evidence_looked_timestamp_seconds)"),
                "s",
                limit=900,
                width=8,
            ),
        ),
        "Entries": (
            Graph(
                "By area",
                (Q(f"sum by (area) (increase({I}audit_entries_total[1h]))", "{{area}}"),),
                what="In an hour: keys, policies, alarms, retention and so on.",
                width=12,
            ),
            Graph(
                "Refused callers",
                (
                    Q(
                        f'sum by (code) (rate({I}rpc_server_handled_total{{code=~"PERMISSION_DENIED|UNAUTHENTICATED"}}[5m]))',
                        "{{code}}",
                    ),
                    Q(f'sum(rate({I}http_requests_total{{status="4xx"}}[5m]))', "4xx at the edge"),
                ),
                "reqps",
                width=12,
            ),
            List(
                "Open alarms",
                Q(f"max by (kind, acknowledged) ({I}alarms_open_count) > 0"),
                width=24,
            ),
        ),
    },
)

BOARDS = (FLEET, QUALITY, DRIFT, JOBS, GPU, API, AUDIT)
