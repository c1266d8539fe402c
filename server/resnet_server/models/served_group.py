"""A group that is ready: a model like any other, whose batches are answered by one of its members."""

from dataclasses import replace

from resnet_server.batching.batcher import Batcher
from resnet_server.batching.cost_model import CostModel
from resnet_server.models.depth_chooser import DepthChooser
from resnet_server.models.group import GroupInfo
from resnet_server.models.served_model import ModelInfo, ServedModel
from resnet_server.planning.group_plan import costs, label
from resnet_server.planning.plan import Plan
from resnet_server.planning.plan_watch import PlanWatch


class ServedGroup(ServedModel):
    """See `ServedModel`; `cost` is that of the cheapest member, and `watch` compares with it."""

    info: GroupInfo

    def __init__(self, info: GroupInfo, batcher: Batcher, cost: CostModel, watch: PlanWatch, chooser: DepthChooser) -> None:
        super().__init__(info, batcher, cost, watch)
        self.chooser = chooser

    def replan(self, plan: Plan) -> None:
        """See `ServedModel.replan`."""
        self.info = with_plan(self.info, plan)
        self.chooser.replan(self.info)
        cheapest = self.info.members[0].plan
        self.cost.replan(cheapest.fixed, cheapest.per_row)
        self.watch.renew(cheapest.fixed, cheapest.per_row)

    async def swap(self, other: ServedModel) -> None:
        """See `ServedModel.swap`."""
        if isinstance(other, ServedGroup):
            self.chooser = other.chooser
        await super().swap(other)


def with_plan(info: GroupInfo, plan: Plan) -> GroupInfo:
    """The same members, each with its costs in this plan."""
    return replace(info, plan=plan, members=tuple(replace(member, plan=plan_of(member, plan)) for member in info.members))


def plan_of(member: ModelInfo, plan: Plan) -> Plan:
    """The plan of a group, with the costs of one member."""
    fixed, per_row = costs(plan, label(member.manifest.name, member.precision))
    return replace(plan, precision=member.precision, fixed=fixed, per_row=per_row)
