"""The tasks of a publication that persons approve: the candidate, the question, and what was answered (rule 66).

The question is Airflow's own: no worker, triggerer or slot is held while somebody thinks.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.api.datamodels._generated import HITLDetailRequest
from airflow.sdk.api.datamodels._generated import HITLUser as APIHITLUser
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload

from airflow_calib_provider.hooks.campaign import base_of, from_base
from airflow_calib_provider.hooks.group import group_of, refuse
from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.hooks.told import told
from airflow_calib_provider.operators.publish import PublishOperator
from airflow_calib_provider.spec.language import APPROVE_SUFFIX, CANDIDATE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from airflow.sdk import Context
    from pydantic import JsonValue

    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.rows import Group
    from airflow_calib_provider.payloads.approvals import ApprovalAnswer, ApprovalRequest, Rules
    from airflow_calib_provider.payloads.store import Published
    from airflow_calib_provider.spec.models import Task, Workflow

ASKED = "asked"
"""The XCom of what the question is about."""


class CandidateOperator(PublishOperator):
    """Makes the candidate that persons are asked about, after its validation."""

    def _said(self, published: Published) -> dict[str, JsonValue]:
        said = super()._said(published)
        if not published.payload_id:  # nothing is new: nobody is asked
            return said
        rest: list[JsonValue] = [one.payload_id for one in published.rest]
        return {
            **said,
            "payload_id": published.payload_id,
            "hash": published.content_hash,
            **({"rest": rest} if rest else {}),
        }


class AskOperator(HITLOperator):
    """Asks persons whether a candidate is to be published.

    :param workflow: the workflow.
    :param task: the name of one of its tasks that publishes with ``approve: {by: …}``.
    """

    ui_color = "#f7e9c3"
    # The text is written when it is asked: nothing of it is a template.
    template_fields = ()

    def __init__(self, *, workflow: Workflow, task: str, **kwargs: Any) -> None:
        from airflow_calib_provider.payloads.questions import APPROVE, REJECT

        self._workflow, self._task_name = workflow, task
        publish = workflow.tasks[task].publish
        assert publish is not None
        assert publish.approve is not None
        comment = Param("", type=["string", "null"], title="Comment", description="Stands in the ledger", source="task")
        # Airflow gives an operator the params of its DAG: this form has none of them.
        kwargs["params"] = {"comment": comment}
        super().__init__(
            subject=f"Publish {' and '.join(publish.tags)}?",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            response_timeout=publish.approve.expires,
            **kwargs,
        )

    @property
    def ledger_task(self) -> str:
        """The task's name in the spec."""
        return self._task_name

    @told
    def execute(self, context: Context) -> Any:
        """Ask, about the candidate as it is now."""
        from airflow_calib_provider.errors import CalibError, IllegalTransition, LedgerError
        from airflow_calib_provider.payloads import approvals

        ledger = task_ledger()
        group = group_of(ledger, context, self._workflow)
        if (base := base_of(ledger, group, self._task_name)) is not None:
            return from_base(context, self.log, base)
        made = context["ti"].xcom_pull(task_ids=f"{self._task_name}{CANDIDATE_SUFFIX}")
        if not isinstance(made, dict) or "payload_id" not in made:
            self.log.info("there is no candidate: nobody is asked")
            return {"not_asked": "there is no candidate"}
        rules = rules_of(ledger, group, self._workflow.tasks[self._task_name], self._workflow, context)
        self.assigned_users = [{"id": user, "name": user} for user in rules.users]
        if rules.approval.four_eyes and not rules.authors:
            self.log.warning("four eyes are asked for, and no author is known: the approver's are the only ones")
        ti = context["ti"]
        place = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
        rest = tuple(made.get("rest", ()))
        try:
            self._write(ledger, (made["payload_id"], *rest), ti.id)
            request = approvals.ask(ledger, made["payload_id"], rules, place, datetime.now(UTC), rest)
        except (LedgerError, IllegalTransition):
            raise
        except CalibError as error:
            refuse(ledger, group, self._task_name, error)
        if request is None:
            self.log.info("it is published already: nobody is asked")
            return {"not_asked": "it is published"}
        asked = {"payload_id": request.payload_id, "content_hash": request.content_hash}
        ti.xcom_push(ASKED, {**asked, "rest": list(rest)} if rest else asked)
        ti.xcom_push("reason", f"waits for {' or '.join(rules.users)}")
        return super().execute(context)

    def validate_chosen_options(self, chosen_options: list[str]) -> None:
        """What an answer is worth is found where it is published, with the content that it names."""

    def _write(self, ledger: Ledger, payload_ids: Sequence[int], ti_id: UUID) -> None:
        """Write the question into Airflow; one about what nobody has to approve any more is not written.

        :raises CalibError: Airflow shows another one.
        """
        from airflow_calib_provider.ledger.payload_states import UNPUBLISHED
        from airflow_calib_provider.payloads import life
        from airflow_calib_provider.payloads.questions import question_of

        with ledger.read() as connection:
            rows = [life.by_id(connection, number) for number in payload_ids]
            if not any(row.state in UNPUBLISHED for row in rows):
                return
            question = question_of(connection, rows)
        row = rows[0]
        self.subject, self.body, self.options = question.subject, question.body, list(question.options)
        self.defaults = self.options[1:]
        # The task's process has it only while the task runs.
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        users = [APIHITLUser(**user) for user in self.assigned_users or ()]
        asked = CreateHITLDetailPayload(
            ti_id=ti_id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            defaults=self.defaults,
            params=self.serialized_params,
            assigned_users=users,
        )
        refuse_other(asked, SUPERVISOR_COMMS.send(asked), f"{row.group_name} --workflow {row.workflow}")


def refuse_other(asked: HITLDetailRequest, kept: object, where: str) -> None:
    """Refuse to wait for an answer to a question that Airflow has kept from before: it never writes one anew.

    :param kept: what Airflow says that it shows.
    :param where: of ``calib retry``.
    :raises CalibError: it is not what is asked.
    """
    from airflow_calib_provider.errors import CalibError

    shown = ("options", "subject", "body", "defaults", "assigned_users")
    if isinstance(kept, HITLDetailRequest) and all(getattr(kept, one) == getattr(asked, one) for one in shown):
        return
    raise CalibError(
        "Airflow still shows the question of before, about other content, values or persons: nobody is asked",
        f"`calib retry {where}` takes it away and asks anew",
    )


class ApprovedOperator(PublishOperator):
    """Publishes what persons have approved, and nothing else."""

    def _publish(self, ledger: Ledger, group: Group, workflow: Workflow, spec: Task, context: Context) -> Published:
        from airflow_calib_provider.payloads import approvals

        assert spec.publish is not None
        ti, asked = context["ti"], f"{self._task_name}{APPROVE_SUFFIX}"
        return approvals.settle(
            ledger,
            group_id=group.id,
            task=self._task_name,
            tags=spec.publish.tags,
            request=request_from(ti.xcom_pull(task_ids=asked, key=ASKED)),
            answer=answer_from(ti.xcom_pull(task_ids=asked)),
            rules=rules_of(ledger, group, spec, workflow, context),
            before=workflow.names_inside(spec),
            now=datetime.now(UTC),
        )


def rules_of(ledger: Ledger, group: Group, spec: Task, workflow: Workflow, context: Context) -> Rules:
    """Who may approve, as the spec and its sources say now."""
    from airflow_calib_provider.payloads.approvals import Rules, authors_of
    from airflow_calib_provider.spec.models import Approval
    from airflow_calib_provider.spec.publications import approvers_of

    assert spec.publish is not None
    approval = spec.publish.approve or Approval()
    triggered = getattr(context["dag_run"], "triggering_user_name", None)
    with ledger.read() as connection:
        authors = authors_of(connection, group, triggered)
    return Rules(approval, approvers_of(approval, workflow.file), authors)


def request_from(found: object) -> ApprovalRequest | None:
    """What was asked about, from Airflow's XCom."""
    from airflow_calib_provider.payloads.approvals import ApprovalRequest

    if not isinstance(found, dict) or not {"payload_id", "content_hash"} <= found.keys():
        return None
    rest = tuple(int(one) for one in found.get("rest", ()))
    return ApprovalRequest(int(found["payload_id"]), str(found["content_hash"]), rest)


def answer_from(found: object) -> ApprovalAnswer | None:
    """An answer, from Airflow's XCom; ``None``: there is none, as after a mark success."""
    from airflow_calib_provider.payloads.approvals import ApprovalAnswer

    if not isinstance(found, dict) or not found.get("chosen_options"):
        return None
    user: Mapping[str, object] = found.get("responded_by_user") or {}
    person = user.get("id") or None
    comment = (found.get("params_input") or {}).get("comment")
    at = found.get("responded_at")
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return ApprovalAnswer(tuple(found["chosen_options"]), str(person) if person else None, str(comment or ""), at)
