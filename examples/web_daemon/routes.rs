//! The requests and their responses.

use std::io::{self, ErrorKind};
use std::mem::take;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handlers::futures::{tasks, with_context};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use reactor::Context;

use crate::files::{Answer, FileBody, store};
use crate::{Daemon, Site};

/// Answers a request.
pub(crate) async fn answer(request: Request<Incoming>, site: Rc<Site>) -> Response<Answer> {
    with_context(|cx: &mut Context<'_, Daemon>| cx.state.requests += 1).await;
    let is_head = request.method() == Method::HEAD;
    let response = answer_with_body(request, &site).await;
    if is_head {
        without_body(response)
    } else {
        response
    }
}

/// Returns the head of a response, with the length of its body. hyper leaves the body out itself,
/// but not by HTTP/2.
fn without_body(response: Response<Answer>) -> Response<Answer> {
    let length = response.body().size_hint().exact();
    let mut response = response.map(|_body| Answer::Text(None));
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}

async fn answer_with_body(request: Request<Incoming>, site: &Site) -> Response<Answer> {
    let path = request.uri().path();
    let Some(name) = path.strip_prefix("/files/") else {
        return match (path, request.method()) {
            ("/", &Method::GET | &Method::HEAD) => {
                text(StatusCode::OK, with_context(status_page).await)
            }
            ("/", _) => not_allowed("GET, HEAD"),
            _ => text(StatusCode::NOT_FOUND, "no such page\n".to_owned()),
        };
    };
    let Some(path) = path_of(name, site) else {
        return text(StatusCode::NOT_FOUND, "no such name of a file\n".to_owned());
    };
    match *request.method() {
        Method::GET | Method::HEAD => file(path, site).await,
        Method::PUT => upload(request.into_body(), path, site).await,
        _ => not_allowed("GET, HEAD, PUT"),
    }
}

/// Returns the path of a file. A name has letters, digits and `._-`, and does not begin with a dot.
fn path_of(name: &str, site: &Site) -> Option<PathBuf> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = name.bytes().all(is_plain) && !name.is_empty() && !name.starts_with('.');
    is_name.then(|| site.root.join(name))
}

/// Returns what the loop knows of itself.
fn status_page(cx: &mut Context<'_, Daemon>) -> String {
    let Daemon {
        began,
        connections,
        requests,
        uploaded_bytes,
        ..
    } = *cx.state;
    let uptime = cx.now().saturating_duration_since(began).as_secs();
    let tasks = tasks(cx.registry).len();
    format!(
        "uptime: {uptime} s\nconnections: {connections}\nrequests: {requests}\n\
         uploaded bytes: {uploaded_bytes}\ntasks: {tasks}\n"
    )
}

async fn file(path: PathBuf, site: &Site) -> Response<Answer> {
    match FileBody::open(&site.pool, path).await {
        Ok(file) => {
            let mut response = Response::new(Answer::File(file));
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            text(StatusCode::NOT_FOUND, "no such file\n".to_owned())
        }
        Err(error) => failed(error).await,
    }
}

async fn upload(body: Incoming, path: PathBuf, site: &Site) -> Response<Answer> {
    match store(body, path, site).await {
        Ok(stored) => text(StatusCode::CREATED, format!("{stored} bytes\n")),
        Err(error) => failed(error).await,
    }
}

/// The least time between two warnings: no client can fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The requests that have failed by the fault of this side.
#[derive(Default)]
pub(crate) struct Failures {
    warned_at: Option<Instant>,
    suppressed: u64,
}

impl Failures {
    fn report(&mut self, error: &io::Error, now: Instant) {
        const TEXT: &str = "a request has failed";
        let is_early = |at| now.saturating_duration_since(at) < WARNING_INTERVAL;
        if self.warned_at.is_some_and(is_early) {
            self.suppressed += 1;
            return tracing::debug!(%error, "{TEXT}");
        }
        self.warned_at = Some(now);
        let suppressed = take(&mut self.suppressed);
        tracing::warn!(%error, suppressed, "{TEXT}");
    }
}

async fn failed(error: io::Error) -> Response<Answer> {
    // A body that did not come to its end: the client has gone, or has broken the protocol.
    if error
        .get_ref()
        .is_some_and(|inner| inner.is::<hyper::Error>())
    {
        tracing::debug!(%error, "a client has not sent all of its body");
        return text(StatusCode::BAD_REQUEST, "incomplete body\n".to_owned());
    }
    with_context(move |cx: &mut Context<'_, Daemon>| {
        let now = cx.now();
        cx.state.failures.report(&error, now);
    })
    .await;
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal error\n".to_owned(),
    )
}

fn not_allowed(methods: &'static str) -> Response<Answer> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {methods}\n"));
    let methods = HeaderValue::from_static(methods);
    response.headers_mut().insert(ALLOW, methods);
    response
}

fn text(status: StatusCode, text: String) -> Response<Answer> {
    let mut response = Response::new(Answer::Text(Some(Bytes::from(text))));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
