//! Both sides of a script by the `h2` crate.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Error, Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::DuplexStream;
use tokio::task::{JoinSet, spawn_local};

use super::script::{Body, Call, Message, Outcome, RESET, Script, Seen, Server};

/// Makes all calls at once, and a large one after them.
pub(crate) async fn client(io: DuplexStream, script: Rc<Script>) -> Vec<Outcome> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(script.window)
        .initial_connection_window_size(65_535)
        .data_frame_budget(usize::MAX)
        .enable_push(false);
    let (sender, mut connection) = builder.handshake(io).await.unwrap();
    let (change, mut changed) = tokio::sync::oneshot::channel();
    let driver = spawn_local(async move {
        tokio::select! {
            ended = &mut connection => return ended,
            Ok(window) = &mut changed => drop(connection.set_initial_window_size(window)),
        }
        connection.await
    });
    let mut change = script.changes.map(|(at, window)| (at, window, change));
    let mut calls = JoinSet::new();
    for at in 0..script.calls.len() {
        if let Some((_, window, change)) = change.take_if(|(change, ..)| *change == at) {
            let _ = change.send(window);
            tokio::task::yield_now().await;
        }
        let (sender, script) = (sender.clone(), Rc::clone(&script));
        calls.spawn_local(async move {
            let call = &script.calls[at];
            (at, retry(&sender, at, call, script.leaves.is_some()).await)
        });
    }
    let mut outcomes = calls.join_all().await;
    outcomes.sort_by_key(|(at, _)| *at);
    let mut outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    if script.leaves.is_none() {
        outcomes.push(retry(&sender, script.calls.len(), &Call::large(), false).await);
    }
    drop((sender, change));
    let ended = driver.await.unwrap();
    assert!(ended.is_ok() || script.leaves.is_some(), "{ended:?}");
    outcomes
}

/// A server may refuse streams while work that was given up goes on.
async fn retry(sender: &SendRequest<Bytes>, at: usize, it: &Call, leaves: bool) -> Outcome {
    loop {
        let outcome = call(sender.clone(), at, it).await;
        if outcome != Outcome::Unprocessed || leaves {
            return outcome;
        }
        tokio::task::yield_now().await;
    }
}

async fn call(sender: SendRequest<Bytes>, at: usize, call: &Call) -> Outcome {
    let mut sender = match sender.ready().await {
        Ok(sender) => sender,
        Err(error) => return outcome_of(&error),
    };
    let mut head = Request::new(());
    *head.method_mut() = call.method.clone();
    *head.uri_mut() = format!("http://a.example/{at}").parse().unwrap();
    *head.headers_mut() = call.request.fields();
    let ends = call.request.is_empty();
    let (response, mut stream) = match sender.send_request(head, ends) {
        Ok(sent) => sent,
        Err(error) => return outcome_of(&error),
    };
    if !ends {
        drop(send(&mut stream, &call.request));
    }
    match receive(response, call.gives_up).await {
        _ if call.gives_up.is_some() => Outcome::GivenUp,
        Ok(seen) => seen.map_or(Outcome::GivenUp, |seen| Outcome::Answered(Box::new(seen))),
        Err(error) => outcome_of(&error),
    }
}

fn outcome_of(error: &Error) -> Outcome {
    let gone = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
    match error.reason() {
        _ if gone => Outcome::Unprocessed,
        Some(reason) if error.is_reset() && error.is_remote() => Outcome::Reset(reason.into()),
        _ => Outcome::Broken(error.to_string()),
    }
}

fn send(stream: &mut SendStream<Bytes>, message: &Message) -> Result<(), Error> {
    let trailers = message.trailers();
    let body = message.body();
    for (at, piece) in body.iter().cloned().enumerate() {
        stream.send_data(piece, trailers.is_none() && at + 1 == body.len())?;
    }
    match trailers {
        Some(trailers) => stream.send_trailers(trailers),
        None if body.is_empty() => stream.send_data(Bytes::new(), true),
        None => Ok(()),
    }
}

/// A response, unless that many bytes of it are enough.
async fn receive(
    mut response: ResponseFuture,
    enough: Option<usize>,
) -> Result<Option<Seen>, Error> {
    if enough == Some(0) {
        tokio::task::yield_now().await;
        return Ok(None);
    }
    let mut interims = 0;
    while let Some(interim) = poll_fn(|context| response.poll_informational(context)).await {
        interim?;
        interims += 1;
    }
    let (head, body) = response.await?.into_parts();
    let Some((body, trailers)) = read(body, enough).await? else {
        return Ok(None);
    };
    Ok(Some(Seen {
        start: head.status.as_str().to_owned(),
        interims,
        fields: head.headers,
        body: Body(body),
        trailers,
    }))
}

async fn read(
    mut stream: RecvStream,
    enough: Option<usize>,
) -> Result<Option<(Vec<u8>, HeaderMap)>, Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        if enough.is_some_and(|enough| body.len() >= enough) {
            return Ok(None);
        }
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok(Some((body, stream.trailers().await?.unwrap_or_default())))
}

/// Serves until the client leaves: what it saw of each call.
pub(crate) async fn server(io: DuplexStream, script: Rc<Script>) -> Vec<(usize, Seen)> {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(script.window)
        .initial_connection_window_size(65_535)
        .data_frame_budget(usize::MAX)
        .max_concurrent_streams(script.streams);
    let mut connection = builder.handshake::<_, Bytes>(io).await.unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = JoinSet::new();
    let mut accepted = 0;
    while let Some(next) = connection.accept().await {
        let (request, respond) = match next {
            // Its client is gone.
            Err(error) if error.is_io() => break,
            next => next.unwrap(),
        };
        accepted += 1;
        if script.leaves == Some(accepted) {
            connection.graceful_shutdown();
        }
        if let Some((at, window)) = script.changes
            && at + 1 == accepted
        {
            // Not while the peer has yet to acknowledge others.
            // As a server it hangs, with its own client too, if the window becomes smaller.
            drop(connection.set_initial_window_size(window.max(script.window)));
        }
        let (seen, script) = (Rc::clone(&seen), Rc::clone(&script));
        tasks.spawn_local(async move {
            let at: usize = request.uri().path()[1..].parse().unwrap();
            let large = Call::large();
            let call = script.calls.get(at).unwrap_or(&large);
            if let Ok(Some(request)) = serve(request, respond, call).await {
                seen.borrow_mut().push((at, request));
            }
        });
    }
    tasks.join_all().await;
    seen.take()
}

async fn serve(
    request: Request<RecvStream>,
    mut writer: SendResponse<Bytes>,
    call: &Call,
) -> Result<Option<Seen>, Error> {
    let (head, body) = request.into_parts();
    let read = match call.server {
        Server::Reads => {
            let read = read(body, None).await?;
            respond(&mut writer, call)?;
            read
        }
        Server::Streams => {
            respond(&mut writer, call)?;
            read(body, None).await?
        }
        Server::Ignores => {
            drop(body);
            respond(&mut writer, call)?;
            None
        }
        Server::Resets(after) => {
            reset(&mut writer, call, after)?;
            None
        }
    };
    Ok(read.map(|(body, trailers)| Seen {
        start: head.method.to_string(),
        interims: 0,
        fields: head.headers,
        body: Body(body),
        trailers,
    }))
}

fn head(call: &Call) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = call.status;
    *head.headers_mut() = call.response.fields();
    head
}

fn respond(writer: &mut SendResponse<Bytes>, call: &Call) -> Result<(), Error> {
    for _ in 0..call.interims {
        let mut interim = Response::new(());
        *interim.status_mut() = http::StatusCode::EARLY_HINTS;
        writer.send_informational(interim)?;
    }
    let ends = call.response.is_empty();
    let mut stream = writer.send_response(head(call), ends)?;
    if ends {
        Ok(())
    } else {
        send(&mut stream, &call.response)
    }
}

fn reset(writer: &mut SendResponse<Bytes>, call: &Call, after: usize) -> Result<(), Error> {
    if after > 0 && !call.response.is_empty() {
        let mut stream = writer.send_response(head(call), false)?;
        for piece in call.response.body().into_iter().take(after) {
            stream.send_data(piece, false)?;
        }
        stream.send_reset(Reason::from(RESET));
    } else {
        writer.send_reset(Reason::from(RESET));
    }
    Ok(())
}
