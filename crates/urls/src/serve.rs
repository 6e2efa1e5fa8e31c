//! One request to a function and its reply, with what the platform adds to both.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use model::RequestId;
use tracing::debug;

use super::authenticate::refuse;
use super::refusal::Refused;
use super::target::{EntryPoint, ListenerKind, Target};
use super::urls::Urls;
use super::{cors, failure, reply, shared_origin};

impl Urls {
    /// Answers a request to a function.
    pub(super) async fn serve(
        self: &Arc<Self>,
        target: Target,
        listener: ListenerKind,
        request: Request,
    ) -> Response {
        let id = clock::new_request_id();
        let (mut parts, body) = request.into_parts();
        let cors = target.cors();
        let preflight = cors.and_then(|cors| cors::preflight(cors, &parts.method, &parts.headers));
        let refused = refuse(&target, listener == ListenerKind::Inside);
        let refused = refused.or_else(|| match target.shared_origin {
            true => shared_origin::strip_request(&mut parts.headers).err(),
            false => None,
        });
        let mut reply = match (refused, preflight) {
            (Some(refused), _) => refused.reply(id),
            // A preflight request does not reach the function.
            (None, Some(answer)) => answer,
            (None, None) => {
                let ran = self.run(id, &target, listener, &mut parts, body).await;
                let mut reply = ran.unwrap_or_else(|refused| {
                    debug!(request = %id, function = %target.function.name, ?refused, "a request was refused");
                    self.refused(id, &target, &refused)
                });
                if let Some(cors) = cors {
                    cors::mark(cors, &parts.headers, reply.headers_mut());
                }
                reply
            }
        };
        if let Some(prefix) = target.prefix(&parts) {
            prefix.restore(reply.headers_mut(), |path| self.is_function_path(path));
        }
        if target.shared_origin {
            shared_origin::strip_reply(reply.headers_mut());
        }
        reply::name(
            reply.headers_mut(),
            id,
            matches!(target.entry_point, EntryPoint::Api(_)),
        );
        reply
    }

    /// Returns the reply to a refused request, reduced to what the caller may see.
    fn refused(&self, id: RequestId, target: &Target, refused: &Refused) -> Response {
        let Some(failure) = refused.private_failure() else {
            return refused.reply(id);
        };
        // Codes that are HTTP statuses, too, keep theirs in either mode.
        let own = refused.status.as_u16() == failure.kind.number();
        let status = if own {
            self.errors.status(failure.kind)
        } else {
            refused.status
        };
        reply::json(status, failure::visible(target, id, failure))
    }
}
