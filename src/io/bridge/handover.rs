//! What the bridge passes to the next process: tokens at remote verifiers, and queued webhooks.

use super::calls::Caller;
use super::order::BridgeOrder;
use crate::dialect::Kind;
use crate::handover::{self, HandoverRecord};
use crate::service::verification::Verification;
use crate::service::webhook::WebhookService;

/// Carries out an order.
pub(super) async fn carry_out(
    order: BridgeOrder,
    verification: &mut Caller<Verification>,
    webhooks: &mut Caller<WebhookService>,
) {
    match order {
        BridgeOrder::Freeze(reply, passed) => {
            let mut records = Vec::new();
            for (dialect, token) in verification.service().export() {
                let Some(kind) = Kind::ALL.iter().find(|kind| kind.id() == dialect) else {
                    continue;
                };
                handover::write(&HandoverRecord::Token(*kind, Box::new(token)), &mut records);
            }
            for webhook in webhooks.service().export() {
                handover::write(&HandoverRecord::Webhook(Box::new(webhook)), &mut records);
            }
            // Who has asked may have given up.
            let _ = reply.send(records);
            // An answer would be lost with the session that has been frozen, and a webhook told
            // here would be told by the next process again.
            if passed.await.is_ok() {
                webhooks.service_mut().give_away();
            }
        }
        BridgeOrder::Import(records, refs) => {
            let (mut tokens, mut queued) = (Vec::new(), Vec::new());
            for record in records {
                match record {
                    HandoverRecord::Token(kind, token) => tokens.push((kind.id(), *token)),
                    HandoverRecord::Webhook(webhook) => queued.push(*webhook),
                    _ => {}
                }
            }
            verification.change(|service, now, answers| {
                for (dialect, token) in tokens {
                    service.import(dialect, token, &refs, now, answers);
                }
            });
            webhooks.change(|service, now, _| {
                queued.into_iter().for_each(|webhook| service.import(webhook, now));
            });
        }
    }
}
