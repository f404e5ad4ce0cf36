"""All 75 classes of attack, in order."""

import attacks_on_host_reader
import attacks_on_integrity
import attacks_on_kernel
import attacks_on_network
import attacks_on_resources
import attacks_on_secrets
import attacks_on_survival
import attacks_on_time
from attack import check

ATTACKS = check(
    (
        *attacks_on_resources.ATTACKS,
        *attacks_on_time.ATTACKS,
        *attacks_on_survival.ATTACKS,
        *attacks_on_secrets.ATTACKS,
        *attacks_on_network.ATTACKS,
        *attacks_on_kernel.ATTACKS,
        *attacks_on_host_reader.ATTACKS,
        *attacks_on_integrity.ATTACKS,
    )
)
