from prometheus_client import REGISTRY

from tests.plugins.installation import wait_for


def figure(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"fastcontainer_userlb_{name}")


async def test_figures_are_those_of_now(world) -> None:
    await world.site("blog")
    await world.warm("blog")
    await wait_for(lambda: (figure("lanes"), figure("slots")) == (1, 1), 3.0)
    before = figure("log_lines") or 0
    await world.ask("blog.test")
    await wait_for(lambda: figure("log_lines") == before + 1, 3.0)
    assert (figure("unconfirmed"), figure("haproxy_ends"), figure("log_lines_malformed")) == (0, 0, 0)
    assert figure("passes")
