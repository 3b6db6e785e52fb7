//! The HTTP routes of the admin address, and who may use them.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::shards::Shards;
use super::{ApiOptions, ControlSettings, Phase, metrics, publish};
use crate::origin::OriginPolicy;
use crate::stats::{ProcessStats, PublishRefusal, ShardStats};

/// The header that carries the API key.
const API_KEY_HEADER: &str = "x-api-key";
/// How long requests that are under way when the gateway has stopped may take to end.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Api {
    settings: Arc<ControlSettings>,
    pub(super) shards: Shards,
    pub(super) stats: Arc<[Arc<ShardStats>]>,
    phases: watch::Receiver<Phase>,
    options: watch::Receiver<ApiOptions>,
}

impl Api {
    pub(super) fn body_bytes_max(&self) -> usize {
        self.settings.body_bytes_max
    }

    /// Called by this thread alone, whose cells they are.
    pub(super) fn count_refusal(&self, refusal: PublishRefusal) {
        self.settings.process.publishes_refused[refusal as usize].add(1);
    }

    pub(super) fn process(&self) -> &Arc<ProcessStats> {
        &self.settings.process
    }
}

/// An answer that says what was wrong, as `{"error": "..."}`.
pub(super) fn error(status: StatusCode, words: impl ToString) -> Response {
    (status, Json(serde_json::json!({ "error": words.to_string() }))).into_response()
}

/// Serves until the process stops.
pub(super) async fn serve(
    settings: ControlSettings,
    listener: TcpListener,
    shards: Shards,
    stats: Arc<[Arc<ShardStats>]>,
    phases: watch::Receiver<Phase>,
    options: watch::Receiver<ApiOptions>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let body_bytes_max = settings.body_bytes_max;
    let deadline = settings.drain.deadline;
    let api = Api { settings: Arc::new(settings), shards, stats, phases: phases.clone(), options };
    let router = Router::new()
        .route("/topics/", post(publish::publish))
        .route("/topics/{*topic}", post(publish::publish))
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn_with_state(api.clone(), check_key))
        .route("/health", get(health))
        .fallback(async |request: Request| {
            error(StatusCode::NOT_FOUND, format!("nothing is served at {:?}", request.uri().path()))
        })
        .layer(middleware::from_fn_with_state(api.clone(), check_origin))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(api);
    // Who has published and waits for the answer gets it; idle connections end at once.
    let serving = axum::serve(listener, router).with_graceful_shutdown(is_stopping(phases.clone()));
    tokio::select! {
        result = serving => result,
        () = patience_is_over(phases, deadline) => Ok(()),
    }
}

async fn is_stopping(mut phases: watch::Receiver<Phase>) {
    // The sender is gone only after it has said so.
    let _ = phases.wait_for(|phase| *phase == Phase::Stopping).await;
}

/// Comes a moment after the gateway has stopped, and not after the time that it has for
/// going down.
async fn patience_is_over(mut phases: watch::Receiver<Phase>, deadline: Duration) {
    let _ = phases.wait_for(|phase| *phase >= Phase::Draining).await;
    let deadline = Instant::now() + deadline;
    is_stopping(phases).await;
    sleep_until(deadline.min(Instant::now() + STOP_PATIENCE)).await;
}

/// Pages of elsewhere must not publish through a browser that can reach us, nor pages
/// whose name was rebound to our address.
async fn check_origin(State(api): State<Api>, request: Request, next: Next) -> Response {
    let policy = api.options.borrow().shards.origin.clone();
    if let Some((status, words)) = wrong_origin(&policy, request.headers()) {
        return error(status, words);
    }
    next.run(request).await
}

fn wrong_origin(policy: &OriginPolicy, headers: &HeaderMap) -> Option<(StatusCode, String)> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let Some(host) = text(header::HOST) else {
        return Some((StatusCode::BAD_REQUEST, "the header Host is missing".to_owned()));
    };
    if !policy.allows_host(host) {
        let words = format!("host {host:?} is not served here; add it to security.allowed_hosts");
        return Some((StatusCode::FORBIDDEN, words));
    }
    let origin = text(header::ORIGIN).filter(|origin| !policy.allows_origin(origin, host))?;
    let words = format!("origin {origin:?} may not use the API; add its host to security.allowed_origins");
    Some((StatusCode::FORBIDDEN, words))
}

async fn check_key(State(api): State<Api>, request: Request, next: Next) -> Response {
    let key = api.options.borrow().api_key.clone();
    if let Some(key) = key {
        let given = request.headers().get(API_KEY_HEADER).map(|value| value.as_bytes());
        if !given.is_some_and(|given| key.matches(given)) {
            let words = match given {
                None => "the header X-API-Key is missing",
                Some(_) => "the header X-API-Key is not the API key (admin_api.key)",
            };
            return error(StatusCode::UNAUTHORIZED, words);
        }
    }
    next.run(request).await
}

/// 200 while all shards turn and clients are welcome; else 503 and what is wrong.
async fn health(State(api): State<Api>) -> Response {
    if *api.phases.borrow() != Phase::Serving {
        return error(StatusCode::SERVICE_UNAVAILABLE, "draining");
    }
    let stuck = api.shards.find_stuck().await;
    if stuck.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    error(StatusCode::SERVICE_UNAVAILABLE, format!("event loops that do not turn: {stuck:?}"))
}
