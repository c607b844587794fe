"""The process that writes one layer: exports it, mounts it, copies or runs, unmounts.

A program of its own, because it changes namespaces and root, and because its death must undo
everything. Nobody imports it from the daemon but for the job's form (`job.py`); it imports the
standard library alone and starts without `site`, which keeps a layer under a third of a second.

    daemon ── main        a mount namespace of its own; holds the FUSE mount
                ├── qemu-storage-daemon     serves the layer as a raw file, in that namespace
                └── mounter                 a nested mount namespace; holds the ext4 mount
                      └── copier | runner   chrooted; for RUN also PID 1 of a PID namespace

The ext4 mount must not live in a namespace that the storage daemon belongs to: killed, its last
thread would tear down a mount whose writeback only it could serve, and hang. The FUSE mount may:
nothing is written through it by then. So with every process dead nothing is left on the host,
and each dies with its parent (PR_SET_PDEATHSIG).
"""
