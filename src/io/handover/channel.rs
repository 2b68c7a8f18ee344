//! Messages with descriptors between two processes, over a pair of connected sockets that keeps
//! the bounds of messages; and bytes that are too long for one, in a file of memory.
//!
//! Messages that wait in the socket keep the descriptors in them open, whether the sender lives or
//! not. So a socket whose other end is closed can hold thousands of connections until someone reads
//! it.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Maximum number of descriptors in a message; the kernel takes 253 (SCM_MAX_FD).
pub(super) const DESCRIPTORS_MAX: usize = 250;
/// Longest message in bytes; those of the conversation are far shorter.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of messages that wait in the socket, as far as the system allows: one with descriptors
/// takes about a kilobyte.
const WAITING_BYTES: usize = 4 << 20;
/// The seals of a file whose bytes do not change any more.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// One end of a pair.
#[derive(Debug)]
pub struct HandoverChannel(OwnedFd);

/// A message as it came.
#[derive(Debug, Default)]
pub(super) struct ReceivedMessage {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl HandoverChannel {
    /// Two ends.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        for end in [&one, &other] {
            // The system may allow less, and a queue that is full is said.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(end, WAITING_BYTES);
        }
        Ok((Self(one), Self(other)))
    }

    /// The end that a descriptor is.
    pub(super) fn of(end: OwnedFd) -> io::Result<Self> {
        let is_one = rustix::net::sockopt::socket_type(&end)? == SocketType::SEQPACKET;
        rustix::io::ioctl_fionbio(&end, true)?;
        is_one.then_some(Self(end)).ok_or_else(|| Errno::PROTOTYPE.into())
    }

    /// Its descriptor, for another process.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// Whether any process still has the other end after this time.
    #[must_use]
    pub fn is_held_for(&self, time: Duration) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        let Ok(time) = rustix::time::Timespec::try_from(time) else { return false };
        // An end is told without being asked for.
        let told = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&time)));
        told.is_ok_and(|told| told == 0)
    }

    /// Sends a message, without waiting for room.
    pub(super) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        // The space may have room for one more, by how it lies in memory.
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(Errno::TOOBIG.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::TOOBIG.into());
        }
        // An empty message would look like the end.
        let bytes = [IoSlice::new(if bytes.is_empty() { b" " } else { bytes })];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match rustix::net::sendmsg(&self.0, &bytes, &mut control, flags) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).map_err(Into::into),
            }
        }
    }

    /// Receives the next message within `time`.
    ///
    /// # Errors
    /// When none comes, or the other end is closed.
    pub(super) fn receive(&self, time: Duration) -> io::Result<ReceivedMessage> {
        let start = Instant::now();
        loop {
            match self.try_receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
            let left = time.checked_sub(start.elapsed()).ok_or(io::ErrorKind::TimedOut)?;
            let left = rustix::time::Timespec::try_from(left).map_err(io::Error::other)?;
            // An end or an error wakes too, and is found by the next look.
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn try_receive(&self) -> io::Result<ReceivedMessage> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received =
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Without a descriptor that was sent the others would be taken for the wrong ones.
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a message is cut off: are there descriptors left?"));
        }
        bytes.truncate(received.bytes);
        Ok(ReceivedMessage { bytes, descriptors })
    }
}

impl AsFd for HandoverChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A file of memory with these bytes, which nobody can change.
pub(super) fn sealed(parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("fanfare-handover", flags)?);
    parts.iter().try_for_each(|part| file.write_all(part))?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// The bytes of such a file, of which there may be so many.
///
/// # Errors
/// When it is another kind of file, or longer.
pub(super) fn unsealed(file: OwnedFd, bytes_max: usize) -> io::Result<Vec<u8>> {
    // A file that may still change is not one of ours.
    if !rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS)) {
        return Err(io::Error::other("the file is not sealed"));
    }
    let file = File::from(file);
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if length > bytes_max {
        return Err(io::Error::other("the file is too long"));
    }
    let mut bytes = vec![0; length];
    // By its place: the other process's own place in it is shared.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn descriptors_wait_in_order_after_their_sender_has_gone() {
        let (sender, receiver) = HandoverChannel::pair().unwrap();
        let pairs: Vec<_> = (0..700).map(|_| UnixStream::pair().unwrap()).collect();
        let (kept, sent): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        for part in sent.chunks(DESCRIPTORS_MAX) {
            let part: Vec<_> = part.iter().map(AsFd::as_fd).collect();
            sender.send(b"part", &part).unwrap();
        }
        drop((sender, sent));
        let mut received = Vec::new();
        while let Ok(message) = receiver.receive(SECOND) {
            assert_eq!(message.bytes, b"part");
            received.extend(message.descriptors);
        }
        assert_eq!(received.len(), 700);
        for (number, (mut kept, received)) in kept.into_iter().zip(received).enumerate() {
            kept.write_all(&number.to_ne_bytes()).unwrap();
            let mut bytes = [0; 8];
            UnixStream::from(received).read_exact(&mut bytes).unwrap();
            assert_eq!(usize::from_ne_bytes(bytes), number);
        }
    }

    #[test]
    fn too_much_at_once_is_refused_and_silence_and_an_end_are_told() {
        let (sender, receiver) = HandoverChannel::pair().unwrap();
        let many = [sender.as_fd(); DESCRIPTORS_MAX + 1];
        assert!(sender.send(b"", &many).is_err());
        let error = receiver.receive(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(receiver.is_held_for(Duration::from_millis(20)));
        drop(sender);
        assert!(!receiver.is_held_for(Duration::ZERO));
        let error = receiver.receive(SECOND).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(HandoverChannel::of(UnixStream::pair().unwrap().0.into()).is_err());
    }

    #[test]
    fn a_sealed_file_is_read_whole_and_others_are_refused() {
        let file = sealed(&[b"one", b"two"]).unwrap();
        assert!(unsealed(file.try_clone().unwrap(), 5).is_err());
        assert_eq!(unsealed(file.try_clone().unwrap(), 6).unwrap(), b"onetwo");
        assert_eq!(unsealed(file, 6).unwrap(), b"onetwo", "again");
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        assert!(unsealed(rustix::fs::memfd_create("x", flags).unwrap(), 6).is_err());
    }
}
