"""The metrics of a deployment: those that its functions write, and those of API Gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from framegate.observability import NAMESPACE
from infra.api.rest_api import STAGE

if TYPE_CHECKING:
    from infra.config import Config

SUM = cloudwatch.Stats.SUM
FIVE_MINUTES = Duration.minutes(5)


class Metrics:
    """Builds the metrics of one deployment. The stack name separates deployments in an account.

    Parameters
    ----------
    config : Config
        Gives the stack name.
    """

    def __init__(self, config: Config) -> None:
        self._name = config.stack_name

    def counted(
        self, name: str, statistic: str = SUM, *, period: Duration = FIVE_MINUTES, label: str | None = None, **by: str
    ) -> cloudwatch.Metric:
        """Return a metric that the functions write, in total or `by` one value of a dimension."""
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"service": self._name, **by},
            statistic=statistic,
            period=period,
            label=label,
        )

    def per_second(self, name: str, *, label: str) -> cloudwatch.MathExpression:
        """Return the rate per second of a metric that the functions write, in total."""
        variable = f"{name[0].lower()}{name[1:]}"
        return cloudwatch.MathExpression(
            expression=f"{variable} / PERIOD({variable})",
            using_metrics={variable: self.counted(name)},
            label=label,
            period=FIVE_MINUTES,
        )

    def counted_by(self, dimension: str, name: str, statistic: str = SUM) -> cloudwatch.MathExpression:
        """Return a metric that the functions write, one line per value of a dimension. Alarms cannot use it."""
        schema = f"{{{NAMESPACE},service,{dimension}}}"
        return cloudwatch.MathExpression(
            expression=f"SEARCH('{schema} MetricName=\"{name}\" service=\"{self._name}\"', '{statistic}', 300)",
            label=f"${{PROP('Dim.{dimension}')}}",
            period=FIVE_MINUTES,
        )

    def of_api(
        self, name: str, statistic: str = SUM, *, period: Duration = FIVE_MINUTES, label: str | None = None
    ) -> cloudwatch.Metric:
        """Return a metric of the API's stage.

        The dimensions are names, not references. With references, the alarms would depend on the API, which depends on
        the alias, whose gradual deployment depends on the alarms.
        """
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            dimensions_map={"ApiName": self._name, "Stage": STAGE},
            statistic=statistic,
            period=period,
            label=label,
        )
