"""A failure that spreads from one service to those that depend on it."""

from collections.abc import Iterable, Mapping

from dslmodel.detect.base import Judgement, View
from dslmodel.records import Clause, Pattern

_SPREAD = 2  # services, besides the root


class CascadeFailure:
    """Fires on the deepest failing service when at least two services that call it, directly or through others, fail too.

    Formula: |{failing services that reach the root along calls through failing services}| >= 2, and no callee of the root fails.
    Units: services.

    >>> from dslmodel.detect.base import View
    >>> callers = {"db": frozenset({"pay"}), "pay": frozenset({"web"})}
    >>> view = View(now=9, readings=(), callers=callers, failing={"db": 1, "pay": 2, "web": 3})
    >>> [(j.service, j.fires) for j in CascadeFailure().inspect(view)]
    [('db', True)]
    """

    pattern = Pattern.CASCADE_FAILURE

    def inspect(self, view: View) -> Iterable[Judgement]:
        """One judgement per failing service without a failing callee, and per open cascade."""
        recovered = {service for pattern, service in view.open if pattern is self.pattern} - set(view.failing)
        for root in sorted({*view.failing, *recovered}):
            if root in view.failing and any(
                root in callers and callee in view.failing and callee != root for callee, callers in view.callers.items()
            ):
                continue
            reached = _spread(root, view.callers, view.failing) if root in view.failing else []
            is_cascade = len(reached) >= _SPREAD
            yield Judgement(
                pattern=self.pattern,
                service=root,
                operation=None,
                fires=is_cascade,
                holds=is_cascade,
                score=round(1.0 - 0.5 ** len(reached), 4) if is_cascade else 0.0,
                started_at=min((view.failing[name] for name in (root, *reached) if name in view.failing), default=view.now),
                window_seconds=0.0,
                summary=f"{root} fails, and with it {', '.join(reached)}" if is_cascade else f"{root} does not take others down",
                clauses=(Clause(name="failing dependents", value=len(reached), rule=f">= {_SPREAD}", holds=is_cascade),),
            )


def _spread(root: str, callers: Mapping[str, frozenset[str]], failing: Mapping[str, int]) -> list[str]:
    """Failing services that depend on `root` through failing ones, nearest first."""
    reached: list[str] = []
    pending = [root]
    while pending:
        for name in sorted(callers.get(pending.pop(0), frozenset())):
            if name in failing and name != root and name not in reached:
                reached.append(name)
                pending.append(name)
    return reached
