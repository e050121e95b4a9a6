"""The UserLB's figures for Prometheus. No series per app: those are in the agent's and the proxies'."""

from prometheus_client import Gauge

from dispatcher.userlb.controller import Controller
from dispatcher.userlb.logs import LogReader

LANES = Gauge("fastcontainer_userlb_lanes", "Lanes that apps have")
SLOTS = Gauge("fastcontainer_userlb_slots", "Containers that get requests in lanes")
IN_FLIGHT = Gauge("fastcontainer_userlb_in_flight", "Requests under way in lanes, as read last")
YIELDED = Gauge("fastcontainer_userlb_yielded", "Apps that gave up their lane to another")
UNHEARD = Gauge(
    "fastcontainer_userlb_unconfirmed", "Containers that are to get no further request, until HAProxy does so"
)
PASSES = Gauge("fastcontainer_userlb_passes", "Passes of the controller")
RESTARTS = Gauge("fastcontainer_userlb_haproxy_ends", "How often HAProxy was found gone and started again")
LINES = Gauge("fastcontainer_userlb_log_lines", "Requests that HAProxy has told of")
MALFORMED = Gauge("fastcontainer_userlb_log_lines_malformed", "Lines of it that could not be read")


def observe(controller: Controller, log: LogReader) -> None:
    """Read when they are asked for."""
    LANES.set_function(lambda: len(controller.memory.owners))
    SLOTS.set_function(lambda: len(controller.memory.lives))
    IN_FLIGHT.set_function(lambda: sum(controller.counts.in_flight.values()))
    YIELDED.set_function(lambda: len(controller.memory.yielded))
    UNHEARD.set_function(lambda: controller.unconfirmed)
    PASSES.set_function(lambda: controller.passes)
    RESTARTS.set_function(lambda: controller.restarts)
    LINES.set_function(lambda: log.lines)
    MALFORMED.set_function(lambda: log.malformed)
