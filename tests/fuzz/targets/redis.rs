//! Messages from Redis: Laravel's broadcasts, and messages that daemons relay to each other.

use super::{Input, NOW, wire};
use fanfare::dialect::echo::{App, AppSettings, Broadcaster, EchoSettings};
use fanfare::dialect::{Kind, Settings};
use fanfare::feed::Intake;
use fanfare::feed::redis::{RedisMessage, RedisTaken, RedisTopics, RelayNode};
use fanfare::setting::Secret;
use std::sync::Arc;

/// The first byte says whether the message comes by a pattern, the line after it on which channel;
/// the rest is the message.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let by_pattern = input.byte() & 1 == 1;
    let Ok(channel) = std::str::from_utf8(input.until(b'\n')) else { return };
    let settings = settings();
    let sources = settings.tables().filter_map(|table| table.redis()?.source).collect();
    let topics = RedisTopics { prefix: "p-".into(), sources, relay: Some(Kind::Channel) };
    let message = RedisMessage { channel, by_pattern, payload: input.0 };
    let mut intake = Intake::new(Kind::ALL.to_vec(), Arc::clone(&settings));

    let taken = topics.take(&message, &RelayNode::new([7; 16]), &mut intake, NOW);
    match taken {
        Ok(RedisTaken::Publication(publication)) => {
            wire::check_publication(&publication);
        }
        Ok(RedisTaken::NoListener | RedisTaken::Ignored | RedisTaken::Own) => {}
        Err(rejection) => assert!(!rejection.to_string().is_empty()),
    }
    // A message signed by this node is its own, and no other node's.
    let signed =
        std::str::from_utf8(input.0).ok().and_then(|text| RelayNode::new([7; 16]).sign(text));
    if let Some(signed) = signed {
        assert!(RelayNode::new([7; 16]).is_own(signed.as_bytes()));
        assert!(!RelayNode::new([8; 16]).is_own(signed.as_bytes()));
    }
}

fn settings() -> Arc<Settings> {
    let app = AppSettings { id: "app-id".into(), key: "app-key".into(), ..AppSettings::default() };
    let apps = vec![Arc::new(App::new(app, Secret("app-secret".into())))];
    let redis = Some(Broadcaster { app: "app-id".into(), prefix: "p-".into() });
    let echo = EchoSettings { apps, redis, ..EchoSettings::default() };
    Arc::new(Settings { echo, ..Settings::default() })
}
