//! Signing in: from then on the connection is its user's, and receives the user's events.

use super::auth::{Signed, is_good};
use super::live::EchoLive;
use super::member::EchoMember;
use super::message::{SignInMessage, error, event};
use super::name::channel_of;
use super::topic::topic;
use crate::dialect::{Actions, Context};
use crate::json::quoted;

/// The code of a sign-in that is refused.
const REFUSED: u16 = 4009;

impl EchoLive {
    pub(super) fn sign_in(
        &mut self,
        wish: &SignInMessage,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) {
        if let Err(message) = self.try_sign_in(wish, context, out) {
            error(REFUSED, message, out);
        }
    }

    fn try_sign_in(
        &mut self,
        wish: &SignInMessage,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) -> Result<(), &'static str> {
        // Verified before the data are read: unsigned data are nobody's word.
        if !is_good(&self.place, self.socket, Signed::User(&wish.user_data), &wish.auth) {
            return Err("The signature of the user data is missing or invalid.");
        }

        let member =
            EchoMember::of_user_data(&wish.user_data, &self.place.settings, context.parser)
                .ok_or("The user data are invalid.")?;
        let known = self.rare.as_ref().and_then(|rare| rare.user.as_ref());
        match known {
            // The first user's channel would have to be left, and the reference refuses this too.
            Some(known) if known.user != member.user => {
                return Err("The connection is signed in as another user.");
            }
            // Signing in again is answered again, as a page does after its own reconnect.
            Some(_) => {}
            None => {
                out.subscribe(&topic(&self.place.id, &channel_of(&member.user)), b"");
                self.rare().user = Some(member);
            }
        }

        let data = format!(r#"{{"user_data":{}}}"#, quoted(&wish.user_data));
        event("pusher:signin_success", &data, out);
        Ok(())
    }
}
