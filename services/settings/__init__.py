"""All settings: environment variables ``MIEN_...``, an optional TOML file, typed and checked."""

from services.settings.base import SettingsError, is_loopback
from services.settings.cameras import CameraSettings, WatchSettings
from services.settings.connections import ConnectionSettings
from services.settings.faces import (
    DecisionSettings,
    DetectionSettings,
    EmbeddingSettings,
    EngineSettings,
    EnhancementSettings,
    ImageSettings,
    MappingSettings,
    QueueSettings,
)
from services.settings.gallery import (
    AuditSettings,
    EnrolmentSettings,
    GallerySettings,
    IdentificationSettings,
    MigrationSettings,
    RetentionRules,
    RetentionSettings,
)
from services.settings.gateway import (
    AccessSettings,
    CacheSettings,
    GatewaySettings,
    RedisSettings,
    TlsSettings,
    TracingSettings,
)
from services.settings.root import (
    FILE_VARIABLE,
    NESTED,
    PREFIX,
    Settings,
    check_home,
    load_settings,
    variable,
)

__all__ = [
    "FILE_VARIABLE",
    "NESTED",
    "PREFIX",
    "AccessSettings",
    "AuditSettings",
    "CacheSettings",
    "CameraSettings",
    "ConnectionSettings",
    "DecisionSettings",
    "DetectionSettings",
    "EmbeddingSettings",
    "EngineSettings",
    "EnhancementSettings",
    "EnrolmentSettings",
    "GallerySettings",
    "GatewaySettings",
    "IdentificationSettings",
    "ImageSettings",
    "MappingSettings",
    "MigrationSettings",
    "QueueSettings",
    "RedisSettings",
    "RetentionRules",
    "RetentionSettings",
    "Settings",
    "SettingsError",
    "TlsSettings",
    "TracingSettings",
    "WatchSettings",
    "check_home",
    "is_loopback",
    "load_settings",
    "variable",
]
