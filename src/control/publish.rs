//! `POST /topics/{topic}`: the body is the message.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::api::{Api, error};
use crate::command::SharedMessage;
use crate::proto::frame::MessageKind;
use crate::proto::utf8;
use crate::stats::PublishRefusal;
use crate::topic_name;

/// Answers once the message has its place in the topic's order, with that place.
pub(super) async fn publish(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // The path as sent: the names of the API and of the dialects are decoded alike.
    let encoded = uri.path().strip_prefix("/topics/").unwrap_or_default();
    let topic = match topic_name::from_path(encoded) {
        Ok(topic) => topic,
        Err(reason) => return error(StatusCode::BAD_REQUEST, reason),
    };
    let payload = match body {
        Ok(payload) => payload,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            api.count_refusal(PublishRefusal::BodyTooLong);
            let limit = api.body_bytes_max();
            return error(
                rejection.status(),
                format!("the body is over the limit of {limit} bytes (admin_api.body_bytes_max)"),
            );
        }
        Err(rejection) => return error(rejection.status(), rejection.body_text()),
    };
    let kind = if is_binary(&headers) { MessageKind::Binary } else { MessageKind::Text };
    if kind == MessageKind::Text && !utf8::is_valid(&payload) {
        let words = "the body is not UTF-8; send Content-Type: application/octet-stream for a binary message";
        return error(StatusCode::BAD_REQUEST, words);
    }
    let message = SharedMessage { kind, payload: payload.as_ref().into() };
    match api.shards.publish(topic.as_str().into(), message).await {
        // Epochs are compared for equality only, so they travel as text.
        Ok(position) => Json(serde_json::json!({
            "topic": topic,
            "offset": position.offset,
            "epoch": format!("{:016x}", position.epoch),
        }))
        .into_response(),
        Err(reason) => {
            let Some(refusal) = reason.refusal() else { return error(StatusCode::GATEWAY_TIMEOUT, reason) };
            api.count_refusal(refusal);
            let mut response = error(StatusCode::SERVICE_UNAVAILABLE, reason);
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            response
        }
    }
}

/// Media types compare without case, and may have parameters (RFC 9110, section 8.3.1).
fn is_binary(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/octet-stream")
}
