# SPDX-License-Identifier: Apache-2.0
"""What the kubelet's configuration has, and of what kind each field is.

A kubelet that finds another field, or a value of another kind, ends. Source: KubeletConfiguration
of k8s.io/kubelet/config/v1beta1, release 0.37.2; its ``int32`` and ``int64`` are numbers here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

#: A duration as Go's time.ParseDuration reads it; the kubelet takes no bare number for one.
_GO_DURATION = r"^[+-]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$"


@dataclass(frozen=True)
class Kind:
    """A kind of value. ``words``: what a person should write, after "write"."""

    type: Any
    words: str

    def adapter(self) -> TypeAdapter[Any]:
        """Return what checks a value, without bending it into shape."""
        return TypeAdapter(self.type, config=ConfigDict(strict=True))


_SWITCH = Kind(bool, "true or false")
_NUMBER = Kind(int, "a whole number")
_FRACTION = Kind(float, "a number, such as 0.9")
_TEXT = Kind(str, "text, in quotes")
_DURATION = Kind(
    Annotated[str, Field(pattern=_GO_DURATION)], "a duration with its unit, such as 30s or 1h15m"
)
_TEXTS = Kind(list[str], "a list of texts")
_NUMBERS = Kind(list[int], "a list of whole numbers")
_TEXT_BY_NAME = Kind(dict[str, str], 'text by name, in quotes, such as {cpu: "1"}')
_SWITCH_BY_NAME = Kind(dict[str, bool], "true or false by name, such as {ImageVolume: true}")
_TEXTS_BY_NAME = Kind(dict[str, list[str]], "a list of texts by name")
_MAPPING = Kind(dict[str, Any], "a mapping of its own fields")
_MAPPINGS = Kind(list[dict[str, Any]], "a list of mappings")

_NAMES: tuple[tuple[Kind, str], ...] = (
    (
        _SWITCH,
        """
        cgroupsPerQOS cpuCFSQuota enableContentionProfiling enableControllerAttachDetach
        enableDebugFlagsHandler enableDebuggingHandlers enableProfilingHandler enableServer
        enableSystemLogHandler enableSystemLogQuery failCgroupV1 failSwapOn
        kernelMemcgNotification localStorageCapacityIsolation makeIPTablesUtilChains
        mergeDefaultEvictionSettings protectKernelDefaults registerNode rotateCertificates
        runOnce seccompDefault serializeImagePulls serverTLSBootstrap singleProcessOOMKill
        """,
    ),
    (
        _NUMBER,
        """
        containerLogMaxFiles containerLogMaxWorkers eventBurst eventRecordQPS
        evictionMaxPodGracePeriod healthzPort imageGCHighThresholdPercent
        imageGCLowThresholdPercent iptablesDropBit iptablesMasqueradeBit kubeAPIBurst
        kubeAPIQPS maxOpenFiles maxParallelImagePulls maxPods nodeLeaseDurationSeconds
        nodeStatusMaxImages oomScoreAdj podPidsLimit podsPerCore port readOnlyPort
        registryBurst registryPullQPS
        """,
    ),
    (_FRACTION, "memoryThrottlingFactor"),
    (
        _TEXT,
        """
        address cgroupDriver cgroupRoot clusterDomain
        configMapAndSecretChangeDetectionStrategy containerLogMaxSize
        containerRuntimeEndpoint contentType cpuManagerPolicy hairpinMode healthzBindAddress
        imagePullCredentialsVerificationPolicy imageServiceEndpoint kubeReservedCgroup
        kubeletCgroups memoryManagerPolicy memoryReservationPolicy podCIDR podLogsDir
        providerID reservedSystemCPUs resolvConf showHiddenMetricsForVersion staticPodPath
        staticPodURL systemCgroups systemReservedCgroup tlsCertFile tlsMinVersion
        tlsPrivateKeyFile topologyManagerPolicy topologyManagerScope volumePluginDir
        """,
    ),
    (
        _DURATION,
        """
        containerLogMonitorInterval cpuCFSQuotaPeriod cpuManagerReconcilePeriod
        evictionPressureTransitionPeriod fileCheckFrequency httpCheckFrequency
        imageMaximumGCAge imageMinimumGCAge nodeStatusReportFrequency
        nodeStatusUpdateFrequency runtimeRequestTimeout shutdownGracePeriod
        shutdownGracePeriodCriticalPods streamingConnectionIdleTimeout syncFrequency
        volumeStatsAggPeriod
        """,
    ),
    (
        _TEXTS,
        """
        allowedUnsafeSysctls clusterDNS enforceNodeAllocatable
        preloadedImagesVerificationAllowlist tlsCipherSuites
        """,
    ),
    (_NUMBERS, "tlsCurvePreferences"),
    (
        _TEXT_BY_NAME,
        """
        cpuManagerPolicyOptions defaultPodSysctls evictionHard evictionMinimumReclaim
        evictionSoft evictionSoftGracePeriod kubeReserved qosReserved systemReserved
        topologyManagerPolicyOptions
        """,
    ),
    (_SWITCH_BY_NAME, "featureGates"),
    (_TEXTS_BY_NAME, "staticPodURLHeader"),
    (
        _MAPPING,
        """
        authentication authorization crashLoopBackOff logging memorySwap tracing
        userNamespaces
        """,
    ),
    (
        _MAPPINGS,
        """
        registerWithTaints reservedMemory shutdownGracePeriodByPodPriority
        """,
    ),
)
#: The kind of each field, by its name.
FIELDS: Mapping[str, Kind] = {name: kind for kind, names in _NAMES for name in names.split()}
