"""Looks over a user's #cloud-config for what cloud-init would ignore without a word. Pure.

cloud-init's own schema lets unknown keys pass (`hostnme:`), and its schema command refuses
multi-part data; so the keys are compared here. Findings are warnings: a newer cloud-init may
know more.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import yaml

from vmorch.guest.user_data import CLOUD_CONFIG, parts

# The top-level keys of cloud-init 22.4 to 24.4: its JSON schema's, and those it reads besides.
_WORDS = """
allow_public_ssh_keys ansible apk_repos apt apt_pipelining apt_reboot_if_required apt_update
apt_upgrade authkey_hash autoinstall bootcmd byobu_by_default ca-certs ca_certs chef chpasswd
cloud_config_modules cloud_final_modules cloud_init_modules create_hostname_file datasource
datasource_list debug def_log_file device_aliases disable_ec2_metadata disable_root
disable_root_opts disk_setup drivers fan final_message fqdn fs_setup groups growpart grub-dpkg
grub_dpkg hostname keyboard landscape launch-index locale locale_configfile log_cfgs lxd
manage_etc_hosts manage_resolv_conf mcollective merge_how merge_type migrate
mount_default_fields mounts network no_ssh_fingerprints ntp output package_reboot_if_required
package_update package_upgrade packages password phone_home power_state
prefer_fqdn_over_hostname preserve_hostname puppet random_seed reporting resize_rootfs
resolv_conf rh_subscription rpi rsyslog runcmd salt_minion snap spacewalk ssh
ssh_authorized_keys ssh_deletekeys ssh_fp_console_blacklist ssh_genkeytypes ssh_import_id
ssh_key_console_blacklist ssh_keys ssh_publish_hostkeys ssh_pwauth ssh_quiet_keygen swap
syslog_fix_perms system_info timezone ubuntu_advantage ubuntu_pro updates user users
vendor_data vendor_data2 wireguard write_files yum_repo_dir yum_repos zypper
"""
KNOWN_KEYS = frozenset(_WORDS.split())


def warnings(user: str) -> tuple[str, ...]:
    """One sentence for each thing in the user's data that will probably not do what it should.

    Raises:
        UsageError: it has no form that cloud-init knows.
    """
    return tuple(
        warning
        for part in parts(user)
        if part.kind == CLOUD_CONFIG
        for warning in _of_config(part.content)
    )


def _of_config(content: bytes) -> Iterator[str]:
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = " ".join(str(error).split())[:200]
        yield f"cloud-init will ignore the #cloud-config, as it is no YAML: {where}."
        return
    if not isinstance(document, dict):
        yield "cloud-init will ignore the #cloud-config, as it has no keys."
        return
    for key in document:
        if str(key) not in KNOWN_KEYS:
            yield f"cloud-init has no key '{key}'{_meant(str(key))}"


def _meant(key: str) -> str:
    close = difflib.get_close_matches(key, KNOWN_KEYS, n=1)
    return f"; did you mean '{close[0]}'?" if close else "."
