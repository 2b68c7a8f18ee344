//! What the service manager is told, and what it keeps for the next process.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::Timespec;
use sd_notify::NotifyState;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;

/// Seconds in which the service manager has to take what it was told.
const TAKEN_MAX_S: i64 = 5;

/// Tells the service manager something, if there is one.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager could not be notified: {error}");
    }
}

/// Has the service manager keep a descriptor for the next process, by a name. Returns once it has
/// taken it, or has closed it: it does not tell which.
///
/// # Errors
/// When there is none, or it takes nothing.
pub(super) fn keep(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    // It would be dropped when its other end is closed, which it is when this process has gone.
    send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), descriptor)?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    send("BARRIER=1", theirs.as_fd())?;
    drop(theirs);
    let time = Timespec { tv_sec: TAKEN_MAX_S, tv_nsec: 0 };
    // It closes its end once it has read everything before.
    let mut ends = [PollFd::new(&ours, PollFlags::empty())];
    match rustix::io::retry_on_intr(|| poll(&mut ends, Some(&time)))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Has the service manager close what it keeps by a name.
pub(super) fn forget(name: &str) {
    notify(&[NotifyState::Custom(&format!("FDSTOREREMOVE=1\nFDNAME={name}"))]);
}

/// Tells the service manager something about a descriptor. sd_notify can do so with another crate
/// only.
fn send(text: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    // The space is that of one.
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let bytes = [IoSlice::new(text.as_bytes())];
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}
