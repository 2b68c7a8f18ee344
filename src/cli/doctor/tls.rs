//! The certificates of the listeners.

use super::super::certificates::{self, Identity};
use super::super::trust::machine_roots;
use super::case::DoctorCase;
use super::finding::DoctorFinding;
use super::machine::no_settings;
use crate::config::TlsTable;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 24 * 3600;
/// Days before its end at which the renewal of a certificate has failed for weeks.
const WARN_DAYS: u64 = 14;
/// Days before its end at which there is hardly time to renew it.
const BAD_DAYS: u64 = 3;

/// Whether clients will believe them, and for how long.
pub(super) fn certificates(case: &mut DoctorCase) -> Vec<DoctorFinding> {
    let Some((config, _)) = &case.settings else { return vec![no_settings()] };
    let mut findings = Vec::new();
    for listen in &config.listen {
        let Some(tls) = listen.tls.as_ref().filter(|tls| tls.is_complete()) else { continue };
        let shown = tls.certificate.display();
        let mend = format!("openssl x509 -noout -subject -dates -in {shown}");
        match certificates::identity(listen, tls) {
            Err(problem) => findings.push(DoctorFinding::bad(problem, mend)),
            Ok(identity) => {
                findings.push(expiry(&identity, tls));
                findings.extend(chain(tls));
            }
        }
    }
    if findings.is_empty() {
        findings.push(DoctorFinding::skipped("no listener speaks TLS"));
    }
    findings
}

/// How long it lasts.
fn expiry(identity: &Identity, tls: &TlsTable) -> DoctorFinding {
    const MEND: &str = "certbot renew && systemctl reload fanfare";
    let shown = tls.certificate.display();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let Some(end_s) = identity.expiry_s else {
        return DoctorFinding::good(format!("{shown} goes with its key"));
    };
    if end_s < now_s {
        let days = (now_s - end_s) / DAY_S;
        let seen = format!("{shown} expired {days} days ago: clients refuse it");
        return DoctorFinding::bad(seen, MEND);
    }
    let days = (end_s - now_s) / DAY_S;
    let seen = format!("{shown} goes with its key, and expires in {days} days");
    match days {
        ..BAD_DAYS => DoctorFinding::bad(seen, MEND),
        BAD_DAYS..WARN_DAYS => DoctorFinding::warn(seen, MEND),
        _ => DoctorFinding::good(seen),
    }
}

/// Whether an authority that this machine trusts has signed it.
fn chain(tls: &TlsTable) -> Option<DoctorFinding> {
    let shown = tls.certificate.display();
    let chain = certificates::certificates(&tls.certificate, "tls.certificate").ok()?;
    let Some(roots) = machine_roots() else {
        let why = format!("{shown}: this machine trusts no authority to compare it with");
        return Some(DoctorFinding::skipped(why));
    };
    let error = certificates::signed(&chain, &roots).err()?;
    Some(DoctorFinding::warn(
        format!(
            "{shown}: no authority that this machine trusts has signed it ({error}), or the file \
             lacks the certificates between"
        ),
        format!("openssl verify -untrusted {shown} {shown}"),
    ))
}
