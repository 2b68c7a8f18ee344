//! What a check of `fanfare doctor` has found.

use serde::Serialize;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DoctorVerdict {
    /// As it should be.
    Good,
    /// It works, and will not always.
    Warn,
    /// It keeps the daemon from its work.
    Bad,
    /// It could not be looked at, or does not apply.
    Skipped,
}

impl DoctorVerdict {
    /// All, in the order in which they are counted.
    pub(super) const ALL: [Self; 4] = [Self::Good, Self::Warn, Self::Bad, Self::Skipped];

    /// Its word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        }
    }
}

/// One thing that a check has found.
#[derive(Debug, Serialize)]
pub(super) struct DoctorFinding {
    pub(super) verdict: DoctorVerdict,
    /// What was seen, in a sentence.
    pub(super) seen: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

impl DoctorFinding {
    pub(super) fn good(seen: impl Into<String>) -> Self {
        Self { verdict: DoctorVerdict::Good, seen: seen.into(), mend: None }
    }

    pub(super) fn warn(seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: DoctorVerdict::Warn, seen: seen.into(), mend: Some(mend.into()) }
    }

    pub(super) fn bad(seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: DoctorVerdict::Bad, seen: seen.into(), mend: Some(mend.into()) }
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self { verdict: DoctorVerdict::Skipped, seen: why.into(), mend: None }
    }
}

/// The command that sets a sysctl, now and after each boot.
pub(super) fn sysctl_set(name: &str, value: &str) -> String {
    format!("echo '{name} = {value}' >> /etc/sysctl.d/fanfare.conf && sysctl --system")
}

/// The command that sets a key of the service's unit.
pub(super) fn unit_set(key: &str, value: &str) -> String {
    format!(
        "printf '[Service]\\n{key}={value}\\n' | install -D -m 0644 /dev/stdin \
         /etc/systemd/system/fanfare.service.d/{key}.conf && systemctl daemon-reload && systemctl \
         restart fanfare"
    )
}
