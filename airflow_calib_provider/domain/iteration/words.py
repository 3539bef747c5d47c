"""How a phase ended, and what to try, for people.

The codes are ``iteration_`` and the name of the ending; the parameters those of
:meth:`~airflow_calib_provider.domain.iteration.endings.PhaseEnd.reason`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_calib_provider.domain.listing import listed


def _at(params: Mapping[str, Any]) -> str:
    """``stage 3, had_scale, step 19``; and, of a phase's first steps, which visit that is."""
    visit = f" (visit {params['visit']})" if params["visit"] != params["step"] else ""
    return f"stage {params['stage']}, {params['phase']}, step {params['step']}{visit}"


def tolerances(d: float, form: str, digits: int) -> str:
    """How far off something is, with so many digits more as tell whether it is inside: 1.0003, and not 1.

    :param form: of the number, such as ``.{}g``; :param digits: at least so many.
    """
    texts = (f"{d:{form.format(n)}}" for n in range(digits, digits + 12))
    return next((text for text in texts if (abs(float(text)) <= 1) == (abs(d) <= 1)), f"{d!r}")


def _worst(params: Mapping[str, Any]) -> str:
    """``mass_eb is 91.6 ± 0.05, 1.8 tolerances off``."""
    if params.get("u") is None or not params.get("metric"):
        return ""
    value = f" is {params['value']:.6g}" if "value" in params else ""
    error = f" ± {params['error']:.2g}" if value and "error" in params else ""
    return f"{params['metric']}{value}{error}, {tolerances(params['u'], '.{}g', 3)} tolerances off"


def _but_best(params: Mapping[str, Any]) -> str:
    best = params.get("best")
    if best is None or best == params["step"]:
        return ""
    return f"; the best was step {best}, {params['best_is']:.3g} off"


def _bad(said: Callable[[Mapping[str, Any]], str]) -> Callable[[Mapping[str, Any]], str]:
    def text(params: Mapping[str, Any]) -> str:
        worst = _worst(params)
        taken = "; accepted by the spec" if params.get("accepted") else ""
        return f"{_at(params)}: {said(params)}{': ' if worst else ''}{worst}{_but_best(params)}{taken}"

    return text


def _converged(params: Mapping[str, Any]) -> str:
    if "verdict" in params:
        return f"{_at(params)}: converged: its update says done"
    doubts = []
    if unknown := params.get("without_error"):
        doubts.append(f"no error is known of {listed(unknown)}, so that luck may have decided")
    if moved := params.get("moved"):
        off = [f"{name} ({d:.3g} tolerances off)" for name, d in moved.items()]
        doubts.append(f"moved outside after it was frozen: {listed(off)}")
    worst = _worst(params)
    return "; ".join([f"{_at(params)}: converged{': ' if worst else ''}{worst}", *doubts])


def _no_change(params: Mapping[str, Any]) -> str:
    return f"{_at(params)}: nothing to change: it is good enough with the constants with which it began"


def _max_steps(params: Mapping[str, Any]) -> str:
    if "max_wall" in params:
        return f"not good after {params['seconds']:.0f} s, of {params['max_wall']:.0f} s that it may take"
    return f"not good after {params['max_steps']} steps, the most that it may take"


def _stalled(params: Mapping[str, Any]) -> str:
    if params.get("unchanged"):
        return "stalled: the update makes the very constants that it was given, and they are not good"
    return "stalled: the last five steps brought it no closer"


def _oscillating(params: Mapping[str, Any]) -> str:
    return f"oscillating from side to side, with {params['left']:.2f} of the error left after each step"


def _diverging(params: Mapping[str, Any]) -> str:
    if params["how"] == "risen":
        return "diverging: further off in each of the last three steps"
    return f"diverging: more than {params['limit']:g} times as far off as it was"


def _not_enough_data(params: Mapping[str, Any]) -> str:
    if params.get("verdict"):
        return "not enough data, says its update"
    if "min_events" in params:
        events = "nobody counted the events" if params["n_events"] is None else f"{params['n_events']} events"
        return f"not enough data: {events}, of {params['min_events']} at least"
    return (
        f"not enough data: the error of {params['metric']}, {params['error']:.3g}, is more than half of its tolerance, "
        f"{params['tolerance']:.3g}, so that luck would decide"
    )


def _said(params: Mapping[str, Any]) -> str:
    return f": {params['said']}" if params.get("said") else ""


def place(params: Mapping[str, Any]) -> str:
    """``stage 3, had_scale, step 19: `` where a reason is about a step; empty where it is not."""
    if not params.get("step"):
        return ""
    doing = {"updating": " (update)", "frozen": " (update)"}.get(str(params.get("doing", "")), "")
    return f"stage {params['stage']}, {params['phase']}, step {params['step']}{doing}: "


TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "iteration_converged": _converged,
    "iteration_single_pass": lambda p: f"{_at(p)}: its one visit is made",
    "iteration_fixed_count": lambda p: f"{_at(p)}: its {p['visits']} visits are made",
    "iteration_no_change": _no_change,
    "iteration_max_steps": _bad(_max_steps),
    "iteration_stalled": _bad(_stalled),
    "iteration_oscillating": _bad(_oscillating),
    "iteration_diverging": _bad(_diverging),
    "iteration_not_finite": _bad(lambda p: f"not a finite number{_said(p)}"),
    "iteration_not_enough_data": _bad(_not_enough_data),
    "iteration_failed": _bad(lambda p: "failed, says its update" if p.get("verdict") else f"failed{_said(p)}"),
    "iteration_killed": _bad(lambda p: f"ended by a person{_said(p)}"),
}

RELEASES: dict[str, str] = {
    "iteration_max_steps": (
        "a higher max_steps or max_wall, if it still comes closer; or accept: [max_steps]; then `calib retry`"
    ),
    "iteration_stalled": (
        "an update that changes what the metric depends on: it ends beside the target as if something else kept it "
        "there; or a larger tolerance; then `calib retry`"
    ),
    "iteration_oscillating": "an update that corrects less: it corrects too much; then `calib retry`",
    "iteration_diverging": (
        "an update whose steps have the right sign and are not too long, then "
        "`calib retry --from-step BEST`, which goes on from the best step; or better constants to begin with, then "
        "`calib retry --all`: no other retry takes them"
    ),
    "iteration_not_finite": "what makes the value, mostly a fit without data or a division by zero; then `calib retry`",
    "iteration_not_enough_data": (
        "more events for each step; or a larger tolerance, or a smaller min_events; then `calib retry`"
    ),
    "iteration_failed": "what the message says; then `calib retry`",
    "iteration_killed": "`calib retry`, which goes on after the last step that was judged",
}
"""What to try, by code; endings that are good have none."""


NO_WORKER = (
    "what ended them: a larger resources.memory if they were killed for it (SIGKILL), a machine that keeps them, or a "
    "higher max_replacements; then `calib retry`"
)
"""What to try where no reserved worker is left."""


def to_try(reason: Mapping[str, Any]) -> str:
    """What a person can try, with the numbers of this ending; empty where it is good, and for other reasons."""
    code = str(reason.get("code"))
    if reason.get("no_worker"):
        return NO_WORKER
    if made_by := reason.get("made_by"):
        back = f"`calib retry --from-step {made_by}`"
        return (
            f"`calib jobs logs` shows why: if the constants are at fault, the update, then {back}; else `calib retry`"
        )
    words = RELEASES.get(code, "").replace("BEST", str(reason.get("best")))
    if code == "iteration_oscillating" and "damping" in reason:
        return words.replace(
            "corrects less", f"corrects {reason['damping']:.2f} times what it does now, as by a damping"
        )
    if code == "iteration_stalled" and reason.get("unchanged"):
        return "the update, which finds nothing to change although it is not good; then `calib retry`"
    return words
