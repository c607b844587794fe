"""Keys of Compose that mean nothing for a virtual machine, each with the reason a user is told."""

from __future__ import annotations

_OWN_KERNEL = "each instance has a kernel of its own; "
_HOST = "guests share nothing with the host; "
_NETWORK = "every service is on the environment's one network; "
_NO_PLUGIN = "there is no such thing here; "
_DISK = "each instance has a disk of its own; "

SERVICE: dict[str, str] = {
    "annotations": "use 'labels'.",
    "attach": "it is about Compose's own output; use 'vmorch logs'.",
    "cap_add": _OWN_KERNEL + "the service already has what its user may do in the guest.",
    "cap_drop": _OWN_KERNEL + "set 'user' to take rights from the service.",
    "cgroup": _OWN_KERNEL + "its control groups are not the host's.",
    "cgroup_parent": "vmorch names the control group of each guest itself.",
    "container_name": "instances are named SERVICE-NUMBER, as a service may have several.",
    "cpu_count": "it is for Windows containers; use 'cpus'.",
    "cpu_percent": "it is for Windows containers; use 'cpus'.",
    "cpu_period": "use 'cpus', which says the same in one number.",
    "cpu_quota": "use 'cpus', which says the same in one number.",
    "cpu_rt_period": "guests are not scheduled in real time; use 'cpus'.",
    "cpu_rt_runtime": "guests are not scheduled in real time; use 'cpus'.",
    "cpu_shares": "caps are hard here; use 'cpus'.",
    "cpuset": "vmorch does not pin guests to CPUs; use 'cpus'.",
    "credential_spec": "it is for Windows containers.",
    "develop": "the files of a guest are those of its image; build again with 'up --build'.",
    "device_cgroup_rules": "devices of the host are not passed to guests.",
    "devices": "devices of the host are not passed to guests.",
    "dns": "the environment's router answers names, also those of the services.",
    "dns_opt": "the environment's router answers names, also those of the services.",
    "dns_search": "the environment's router answers names, also those of the services.",
    "domainname": "the host name of an instance is SERVICE-NUMBER.",
    "extends": "one file says all of a service; use YAML anchors, or several -f files.",
    "external_links": "environments do not reach each other.",
    "gpus": "devices of the host are not passed to guests.",
    "group_add": "add the groups to the user in the image.",
    "hostname": "the host name of an instance is SERVICE-NUMBER, as a service may have several.",
    "init": "a guest always has an init of its own.",
    "ipc": _OWN_KERNEL + "there is no IPC namespace to share.",
    "isolation": "it is for Windows containers.",
    "label_file": "write 'labels' into this file.",
    "links": _NETWORK + "a service reaches any other by its name.",
    "logging": "logs are kept in bounded files on the host; use 'vmorch logs'.",
    "mac_address": "vmorch chooses the addresses of every instance.",
    "mem_swappiness": _OWN_KERNEL + "set vm.swappiness in the image.",
    "memswap_limit": "a guest swaps only to what its image sets up; use 'deploy.resources'.",
    "models": _NO_PLUGIN + "run the model as a service.",
    "network_mode": _NETWORK + "a guest cannot be in the host's network.",
    "oom_kill_disable": _OWN_KERNEL + "memory runs out inside the guest, not on the host.",
    "oom_score_adj": _OWN_KERNEL + "memory runs out inside the guest, not on the host.",
    "pid": _OWN_KERNEL + "there is no PID namespace to share.",
    "pids_limit": _OWN_KERNEL + "processes cannot be counted from outside.",
    "platform": "guests have the host's own architecture.",
    "post_start": "start it from the image, or with 'cloud_init'.",
    "pre_stop": "let the service handle its stop signal.",
    "privileged": _OWN_KERNEL + "root in the guest already may do everything there.",
    "provider": _NO_PLUGIN + "a service is a virtual machine.",
    "pull_policy": "images are built, or made from bases; nothing is pulled from a registry.",
    "read_only": _DISK + "mount it read-only in the image if that is wanted.",
    "runtime": "every instance runs under QEMU.",
    "security_opt": _OWN_KERNEL + "the guest itself is the boundary.",
    "shm_size": _OWN_KERNEL + "mount /dev/shm in the image with the size you want.",
    "stdin_open": "use 'vmorch console' or 'vmorch exec'.",
    "stop_signal": "write STOPSIGNAL into the Dockerfile.",
    "storage_opt": "use 'disk' for the size of the system disk.",
    "sysctls": _OWN_KERNEL + "write /etc/sysctl.d in the image, or use 'cloud_init'.",
    "tmpfs": "mount one in the image; a guest has its own /run and /tmp.",
    "tty": "use 'vmorch console' or 'vmorch exec'.",
    "ulimits": _OWN_KERNEL + "set the limits in the image.",
    "use_api_socket": _HOST + "vmorch's API is not given to guests.",
    "userns_mode": _OWN_KERNEL + "there is no user namespace to choose.",
    "uts": _OWN_KERNEL + "there is no UTS namespace to share.",
    "volumes_from": "a named volume belongs to one instance at a time.",
}

FILE: dict[str, str] = {
    "include": "give each file with -f; a file that names others hides where a value comes from.",
    "models": SERVICE["models"],
}

_ONE_NETWORK = "vmorch makes the network itself: a bridge and a router of the environment's own."
NETWORK: dict[str, str] = {
    "attachable": _ONE_NETWORK,
    "driver": _ONE_NETWORK,
    "driver_opts": _ONE_NETWORK,
    "enable_ipv4": "guests have IPv4 addresses.",
    "enable_ipv6": "guests have IPv4 addresses only.",
    "external": "environments do not reach each other.",
    "labels": _ONE_NETWORK,
    "name": "its names on the host are made from the installation's id.",
}
IPAM: dict[str, str] = {"driver": _ONE_NETWORK, "options": _ONE_NETWORK}
SUBNET: dict[str, str] = {
    "gateway": "the first address of the subnet is the gateway.",
    "ip_range": "addresses .64 to .254 are for instances.",
    "aux_addresses": "addresses .64 to .254 are for instances.",
}
