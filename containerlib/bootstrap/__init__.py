"""Where a container's root comes from: one module a strategy.

    directory.Directory(Path("/srv/roots/blog"))                a copy
    tarball.Tarball(Path("/srv/roots/blog.tar.zst"))            gz, bz2, xz, zst or none
    git.Git("https://example.com/blog.git", ref="v3")           what is in a commit
    shell.Shell("tar -C $ROOT -xf /srv/base.tar")               a script of yours, on the host
    debootstrap.Debootstrap("bookworm", packages=("php-cli",))  Debian and its kin, by mmdebstrap
    oci.Oci("docker://debian:12")                               images of Docker and others, by skopeo and umoci
    function.Function(make)                                     make(root, progress), yours

Each is a frozen value that says what is wrong with it when it is made (ValueError: field, value, rule), `recipe()`, the digest of
what it would build from, and `build(root, bench)`. `usr` is no image: it is the host's own /usr (usr.py).
"""
