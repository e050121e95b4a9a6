"""A container as a Python program says it.

    from containerlib import Phase, define

    @define("blog")
    def blog(c):
        c.bootstrap.usr()
        c.command("php", "-S", "0.0.0.0:80", "-t", "/srv/www")
        c.mount("/datapool/blog", "/srv/www")
        c.cgroup.cpu = "30%"

        @c.hook(Phase.AFTER_START)
        def announce(container): ...

    @define("shop", inherits="blog")
    def shop(c):                      # all of blog, then this
        c.env["SHOP"] = "1"

Every word is checked where it stands: DefinitionError has the field, the value, the rule, and the file and line.
"""

from containerlib.dsl.builder import Builder
from containerlib.dsl.definitions import Definition, Definitions, define, load
from containerlib.dsl.errors import DefinitionError

__all__ = ["Builder", "Definition", "DefinitionError", "Definitions", "define", "load"]
