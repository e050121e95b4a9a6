"""Where a container's root comes from: one module a strategy.

    Directory("/srv/roots/blog")                          a copy
    Tarball("/srv/roots/blog.tar.zst")                    gz, bz2, xz, zst or none
    Git("https://example.com/blog.git", ref="v3")         what is in a commit
    Shell("debootstrap-like --into $ROOT")                a script of yours, on the host
    Debootstrap("bookworm", packages=("php-cli",))        Debian and its kin, by mmdebstrap
    Oci("docker://debian:12")                             images of Docker and others, by skopeo and umoci
    Function(make)                                        make(root, progress), yours

Each is a frozen value that says what is wrong with it when it is made (ValueError: field, value, rule), `recipe()`, the digest of
what it would build from, and `build(root, bench)`. `usr` is no image: it is the host's own /usr (usr.py).
"""
