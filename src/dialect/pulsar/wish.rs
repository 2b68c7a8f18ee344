//! What somebody wants to be, from the path and the query of a handshake.

use super::params::{self, Params};
use super::path::Endpoint;
use super::volatile::Listener;
use super::{Part, Producer, Role};
use crate::dialect::{Context, Upgrade};
use crate::service::topic::{Flow, TopicDomain, TopicQuestion, WantedTopics};

/// What is to be asked of the owner of the topics, and what the session has when it has agreed.
pub(super) struct Wish {
    /// What is to be asked, or what is wrong with it. Until it was asked.
    pub(super) request: Option<Result<TopicQuestion, params::Wrong>>,
    /// What belongs to the role then.
    pub(super) then: Part,
}

impl Wish {
    pub(super) fn none(reason: params::Wrong) -> Self {
        Self { request: Some(Err(reason)), then: Part::None }
    }
}

/// What somebody wants to be, from the path and the query.
pub(super) fn wish(endpoint: Endpoint, upgrade: &Upgrade<'_>, context: &mut Context<'_>) -> (Role, Wish) {
    let (params, remote) = (Params::read(upgrade.query), upgrade.remote);
    let of = |made: Result<(TopicQuestion, Part), params::Wrong>| match made {
        Ok((request, then)) => Wish { request: Some(Ok(request)), then },
        Err(reason) => Wish::none(reason),
    };
    let mut consumer = |topics: Result<WantedTopics, params::Wrong>, subscription: &str| {
        let consuming = params::consuming(&params, topics?, subscription, remote, context.rng)?;
        let then = match &consuming.topics {
            WantedTopics::One(topic) if topic.domain() == TopicDomain::NonPersistent => {
                let listener = Listener::consumer(topic.clone(), consuming.kind, consuming.flow);
                Part::Listener(Box::new(listener))
            }
            _ if consuming.flow == Flow::Pull => Part::Pull,
            _ => Part::None,
        };
        Ok((TopicQuestion::Consume(Box::new(consuming)), then))
    };
    match endpoint {
        Endpoint::Consumer(topic, subscription) => {
            (Role::Consumer, of(consumer(Ok(WantedTopics::One(topic)), &subscription)))
        }
        Endpoint::Several(subscription) => {
            (Role::Consumer, of(consumer(params::wanted(&params), &subscription)))
        }
        Endpoint::Producer(topic) => {
            let made = params::producing(&params, topic, remote).map(|(producing, encryption)| {
                let (topic, name) = (producing.topic.clone(), producing.name.clone());
                let producer = Producer { topic, name, encryption, sent: 0 };
                (TopicQuestion::Produce(Box::new(producing)), Part::Producer(Box::new(producer)))
            });
            (Role::Producer, of(made))
        }
        Endpoint::Reader(topic) => {
            let made = params::reading(&params, topic, remote, context.rng).map(|reading| {
                let then = match reading.topic.domain() {
                    TopicDomain::NonPersistent => {
                        Part::Listener(Box::new(Listener::reader(reading.topic.clone(), reading.window)))
                    }
                    TopicDomain::Persistent => Part::None,
                };
                (TopicQuestion::Read(Box::new(reading)), then)
            });
            (Role::Reader, of(made))
        }
        Endpoint::PingPong => (Role::PingPong, Wish::none(String::new())),
    }
}
