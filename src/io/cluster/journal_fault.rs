//! Why JetStream does not do what a journal asks for, with what to do.

use async_nats::jetstream::Error as JetStreamError;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, PublishError, PublishErrorKind, RequestError,
    RequestErrorKind,
};
use async_nats::jetstream::stream::{
    LastRawMessageErrorKind, PurgeError, PurgeErrorKind, RawMessageError,
};
use std::error::Error as _;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalFault {
    /// The server has no JetStream, or this account has none.
    #[error(
        "NATS has no JetStream for this account, which presence and webhooks of echo need: put \
         `jetstream {{ store_dir: … }}` into nats.conf, and `jetstream: enabled` into the account"
    )]
    NoJetStream,
    /// Too few servers for the copies.
    #[error(
        "JetStream has too few servers for the copies that cluster.replicas asks for: start as many \
         servers as one cluster (replicas = 1 is for tests)"
    )]
    NoPeers,
    /// A limit of storage.
    #[error(
        "JetStream has no room: the disk of its servers is full, or a limit of the account \
         (max_file_store) is reached; until there is room, nothing that presence decides is told"
    )]
    Full,
    /// The stream is another service's.
    #[error(
        "the stream {0} was made by another service, or for another number of partitions: give this \
         service another cluster.name, or remove the stream if nothing uses it"
    )]
    Foreign(String),
    /// The stream has another number of copies.
    #[error(
        "the stream {stream} is kept in {found} copies and cluster.replicas asks for {asked}: set \
         the one or the other (`nats stream edit {stream} --replicas {asked}`)"
    )]
    Replicas {
        /// Its name.
        stream: String,
        /// As it is.
        found: usize,
        /// As configured.
        asked: usize,
    },
    /// The journal is too long.
    #[error("the stream {0} is longer than any journal becomes: `nats stream info {0}` shows why")]
    Long(String),
    /// Another message was the last.
    #[error("another node owns the partition")]
    WrongSequence,
    /// No answer in time, as while a leader is elected.
    #[error("JetStream does not answer: its servers elect a leader, or too few are up")]
    Silent,
    /// A read was cut off by the end of the daemon.
    #[error("the daemon stops")]
    Missing,
    /// Another error of JetStream.
    #[error("JetStream answers: {0}")]
    Other(String),
}

impl JournalFault {
    /// Whether a write was refused for the message before it.
    pub(super) fn is_wrong_sequence(&self) -> bool {
        matches!(self, Self::WrongSequence)
    }
}

impl From<JetStreamError> for JournalFault {
    fn from(error: JetStreamError) -> Self {
        match error.error_code() {
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Self::NoJetStream
            }
            ErrorCode::CLUSTER_NO_PEERS
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => Self::NoPeers,
            ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::STREAM_STORE_FAILED => Self::Full,
            // For a moment, as while they elect one.
            ErrorCode::CLUSTER_NOT_AVAILABLE => Self::Silent,
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE
            | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => Self::WrongSequence,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<CreateStreamError> for JournalFault {
    fn from(error: CreateStreamError) -> Self {
        match error.kind() {
            CreateStreamErrorKind::JetStream(error) => error.into(),
            CreateStreamErrorKind::JetStreamUnavailable => Self::NoJetStream,
            CreateStreamErrorKind::TimedOut => Self::Silent,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<PublishError> for JournalFault {
    fn from(error: PublishError) -> Self {
        let source = error.source().and_then(|source| source.downcast_ref::<JetStreamError>());
        match (source, error.kind()) {
            // The stream is there already: it is the room that is insufficient.
            (Some(source), _) if source.error_code() == ErrorCode::INSUFFICIENT_RESOURCES => {
                Self::Full
            }
            (Some(source), _) => source.clone().into(),
            (None, PublishErrorKind::TimedOut | PublishErrorKind::StreamNotFound) => Self::Silent,
            (None, _) => Self::Other(error.to_string()),
        }
    }
}

impl From<RawMessageError> for JournalFault {
    fn from(error: RawMessageError) -> Self {
        match error.kind() {
            LastRawMessageErrorKind::JetStream(error) => error.into(),
            LastRawMessageErrorKind::Other => Self::Silent,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<RequestError> for JournalFault {
    fn from(error: RequestError) -> Self {
        match error.kind() {
            RequestErrorKind::TimedOut => Self::Silent,
            RequestErrorKind::NoResponders => Self::NoJetStream,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<PurgeError> for JournalFault {
    fn from(error: PurgeError) -> Self {
        match error.kind() {
            PurgeErrorKind::JetStream(error) => error.into(),
            PurgeErrorKind::Request | PurgeErrorKind::TimedOut => Self::Silent,
        }
    }
}
