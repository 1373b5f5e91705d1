"""The metrics of a deployment: what its functions count, and what API Gateway measures of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from framegate.observability import NAMESPACE
from infra.rest_api import STAGE

if TYPE_CHECKING:
    from infra.config import Config

SUM = cloudwatch.Stats.SUM
FIVE_MINUTES = Duration.minutes(5)


class Metrics:
    """Finds metrics of one deployment, whose name tells it from others in the account.

    Parameters
    ----------
    config : Config
        Has the name.
    """

    def __init__(self, config: Config) -> None:
        self._name = config.stack_name

    def counted(
        self, name: str, statistic: str = SUM, *, period: Duration = FIVE_MINUTES, label: str | None = None, **by: str
    ) -> cloudwatch.Metric:
        """Return a metric of ours, over all or `by` one value of a dimension."""
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"service": self._name, **by},
            statistic=statistic,
            period=period,
            label=label,
        )

    def a_second(self, name: str, *, label: str) -> cloudwatch.MathExpression:
        """Return how much of a metric of ours there is in a second, over all."""
        variable = f"{name[0].lower()}{name[1:]}"
        return cloudwatch.MathExpression(
            expression=f"{variable} / PERIOD({variable})",
            using_metrics={variable: self.counted(name)},
            label=label,
            period=FIVE_MINUTES,
        )

    def counted_by(self, dimension: str, name: str, statistic: str = SUM) -> cloudwatch.MathExpression:
        """Return a metric of ours as a line for each value of a dimension; only a dashboard can show that."""
        schema = f"{{{NAMESPACE},service,{dimension}}}"
        return cloudwatch.MathExpression(
            expression=f"SEARCH('{schema} MetricName=\"{name}\" service=\"{self._name}\"', '{statistic}', 300)",
            label=f"${{PROP('Dim.{dimension}')}}",
            period=FIVE_MINUTES,
        )

    def of_api(
        self, name: str, statistic: str = SUM, *, period: Duration = FIVE_MINUTES, label: str | None = None
    ) -> cloudwatch.Metric:
        """Return a metric of the API, by names and not by references: an alarm that a deployment waits for would wait
        for the deployment.
        """
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            dimensions_map={"ApiName": self._name, "Stage": STAGE},
            statistic=statistic,
            period=period,
            label=label,
        )
