#!/bin/bash
# What systemd-socket-activate executes on the first connection, the listening socket being descriptor 3. The site's server first, as
# Requires= and After= would have it (systemd-socket-proxyd(8)), then the proxy in this very process, for the socket is meant for it.
# php -S tells nobody when it listens, so it is asked. Its workers are forked at once, and all of them (PHP's manual, "Built-in web
# server"); opcache is off in a command-line PHP unless it is told (opcache.enable_cli).
setpriv --reuid {{uid}} --regid {{uid}} --clear-groups --no-new-privs \
    env PHP_CLI_SERVER_WORKERS={{workers}} \
    php -d opcache.enable_cli=1 -S 127.0.0.1:{{inner_port}} -t {{root}} 3<&- &
until (exec 4<>/dev/tcp/127.0.0.1/{{inner_port}}) 2>/dev/null; do sleep 0.002; done
exec {{proxyd}} --exit-idle-time={{idle_s}}s 127.0.0.1:{{inner_port}}
