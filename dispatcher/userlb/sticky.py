"""The cookie that leads a visitor back to the container that answered him before, in HAProxy's words. Pure.

Only lanes that have tokens in the map do this: of apps that asked for it (`policy.sticky`). The cookie is SLOT.TOKEN. Where the
slot is closed, or has become another life's, the visitor is sent on by load, and told anew.
"""

COOKIE = "fastcontainer"


def lines(tokens: str) -> list[str]:
    """For a lane. `tokens`: the map's file."""
    cookie = f"req.cook({COOKIE})"
    return [
        f"    http-request set-var(txn.cookie) {cookie} if {{ {cookie} -m found }}",
        '    http-request set-var-fmt(txn.place) "%[be_name]/%[var(txn.cookie),field(1,.)]" if { var(txn.cookie) -m found }',
        f"    http-request set-var(txn.token) var(txn.place),map({tokens}) if {{ var(txn.cookie) -m found }}",
        "    http-request set-var(txn.stays) bool(true) if { var(txn.token) -m found } "
        "{ var(txn.cookie),field(2,.),strcmp(txn.token) eq 0 }",
        "    use-server %[var(txn.cookie),field(1,.)] if { var(txn.stays) -m bool }",
        '    http-response set-var-fmt(txn.came) "%[be_name]/%[srv_name]"',
        f"    http-response set-var(txn.given) var(txn.came),map({tokens})",
        '    http-response set-var-fmt(txn.new) "%[srv_name].%[var(txn.given)]" if { var(txn.given) -m found }',
        f'    http-response add-header Set-Cookie "{COOKIE}=%[var(txn.new)]; Path=/; HttpOnly; SameSite=Lax" '
        "if { var(txn.given) -m found } !{ var(txn.new),strcmp(txn.cookie) eq 0 }",
    ]
