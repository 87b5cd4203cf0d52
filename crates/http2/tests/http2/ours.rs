//! Both sides of a script by our own codec.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;
use http2::{Accepted, Config, Connection, Error, Outgoing, Reader, Reason, Requests, Writer};
use tokio::io::DuplexStream;
use tokio::task::{JoinSet, spawn_local};

use super::driver::drive;
use super::script::{Body, Call, Message, Outcome, RESET, Script, Seen, Server};

fn config(script: &Script) -> Config {
    Config {
        stream_window: script.window,
        connection_window: 65_535,
        streams: script.streams,
        header_bytes: 64 * 1024,
    }
}

/// Makes all calls at once, and a large one after them.
pub(crate) async fn client(io: DuplexStream, script: Rc<Script>) -> Vec<Outcome> {
    let (connection, requests) = Connection::client(config(&script));
    let driver = spawn_local(drive(connection, io, |_, _| {}));
    let mut calls = JoinSet::new();
    for at in 0..script.calls.len() {
        let (requests, script) = (requests.clone(), Rc::clone(&script));
        calls.spawn_local(async move { (at, retry(&requests, at, &script.calls[at]).await) });
    }
    let mut outcomes = calls.join_all().await;
    outcomes.sort_by_key(|(at, _)| *at);
    let mut outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    if script.leaves.is_none() {
        outcomes.push(retry(&requests, script.calls.len(), &Call::large()).await);
    }
    drop(requests);
    let left = driver.await.unwrap();
    // A server that leaves may be gone before everybody has seen it.
    assert!(
        left == 0 || script.leaves.is_some(),
        "{left} streams are left"
    );
    outcomes
}

/// A server may refuse streams that were opened before its settings came, and while work that was
/// given up goes on.
async fn retry(requests: &Requests, at: usize, it: &Call) -> Outcome {
    loop {
        let outcome = call(requests, at, it).await;
        if outcome != Outcome::Unprocessed || !requests.is_usable() {
            return outcome;
        }
    }
}

async fn call(requests: &Requests, at: usize, call: &Call) -> Outcome {
    poll_fn(|context| requests.poll_room(context)).await;
    let path = format!("/{at}");
    let fields = call.request.fields();
    let head = Outgoing {
        method: &call.method,
        scheme: "http",
        authority: "a.example",
        path: Some(&path),
        query: None,
        fields: &fields,
        te_trailers: false,
    };
    let sent = requests.send(&head, call.request.is_empty());
    // Nothing was sent, if that is an error.
    let Ok((reader, writer)) = sent else {
        return Outcome::Unprocessed;
    };
    let (gives_up, given_up) = tokio::sync::oneshot::channel();
    let upload = async {
        if let Some(mut writer) = writer {
            let sends = send(&mut writer, &call.request);
            // The response says how it went; who gives it up stops sending.
            tokio::select! {
                _ = sends => {}
                Ok(()) = given_up => {}
            }
        }
    };
    let response = async {
        let seen = receive(reader, call.gives_up).await;
        if call.gives_up.is_some() {
            let _ = gives_up.send(());
        }
        seen
    };
    let (seen, ()) = tokio::join!(response, upload);
    match seen {
        _ if call.gives_up.is_some() => Outcome::GivenUp,
        Ok(seen) => seen.map_or(Outcome::GivenUp, |seen| Outcome::Answered(Box::new(seen))),
        Err(error) => outcome_of(error),
    }
}

fn outcome_of(error: Error) -> Outcome {
    match error {
        error if error.is_unprocessed() => Outcome::Unprocessed,
        Error::Reset(reason) => Outcome::Reset(reason.code()),
        error => Outcome::Broken(error.to_string()),
    }
}

async fn send(writer: &mut Writer, message: &Message) -> Result<(), Error> {
    let trailers = message.trailers();
    let body = message.body();
    for (at, mut piece) in body.iter().cloned().enumerate() {
        let last = trailers.is_none() && at + 1 == body.len();
        while !piece.is_empty() {
            poll_fn(|context| writer.poll_data(context, &mut piece, last)).await?;
        }
    }
    match trailers {
        Some(trailers) => writer.trailers(&trailers),
        None if body.is_empty() => writer.finish(),
        None => Ok(()),
    }
}

/// A response, unless that many bytes of it are enough.
async fn receive(mut reader: Reader, enough: Option<usize>) -> Result<Option<Seen>, Error> {
    if enough == Some(0) {
        tokio::task::yield_now().await;
        return Ok(None);
    }
    let mut interims = 0;
    let head = poll_fn(|context| reader.poll_head(context, |_| interims += 1)).await?;
    let Some((body, trailers)) = read(&mut reader, enough).await? else {
        return Ok(None);
    };
    Ok(Some(Seen {
        start: head.status.as_str().to_owned(),
        interims,
        fields: head.fields,
        body: Body(body),
        trailers,
    }))
}

async fn read(
    reader: &mut Reader,
    enough: Option<usize>,
) -> Result<Option<(Vec<u8>, HeaderMap)>, Error> {
    let mut body = Vec::new();
    while let Some(data) = poll_fn(|context| reader.poll_data(context)).await {
        let data: Bytes = data?;
        body.extend_from_slice(&data);
        if enough.is_some_and(|enough| body.len() >= enough) {
            // What it took is not passed on.
            return Ok(None);
        }
        reader.release(data.len());
    }
    Ok(Some((body, reader.trailers().unwrap_or_default())))
}

/// Serves until the client leaves: what it saw of each call.
pub(crate) async fn server(io: DuplexStream, script: Rc<Script>) -> Vec<(usize, Seen)> {
    let connection = Connection::server(config(&script));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (accepted, tasks) = (Cell::new(0), Rc::new(RefCell::new(JoinSet::new())));
    let serving = Rc::clone(&tasks);
    let (all, of) = (Rc::clone(&seen), Rc::clone(&script));
    drive(connection, io, move |connection, request| {
        accepted.set(accepted.get() + 1);
        if of.leaves == Some(accepted.get()) {
            connection.leave();
        }
        let (seen, script) = (Rc::clone(&all), Rc::clone(&of));
        serving.borrow_mut().spawn_local(async move {
            let at: usize = request.head.uri.path()[1..].parse().unwrap();
            let large = Call::large();
            let call = script.calls.get(at).unwrap_or(&large);
            if let Ok(Some(request)) = serve(request, call).await {
                seen.borrow_mut().push((at, request));
            }
        });
    })
    .await;
    let tasks = tasks.take();
    tasks.join_all().await;
    seen.take()
}

async fn serve(request: Accepted, call: &Call) -> Result<Option<Seen>, Error> {
    let (head, mut writer) = (request.head, request.respond);
    let body = request.body;
    let reads = async {
        match body {
            Some(mut body) => read(&mut body, None).await,
            None => Ok(Some((Vec::new(), HeaderMap::new()))),
        }
    };
    let read = match call.server {
        Server::Reads => {
            let read = reads.await?;
            respond(&mut writer, call).await?;
            read
        }
        Server::Streams => {
            let (read, sent) = tokio::join!(reads, respond(&mut writer, call));
            sent?;
            read?
        }
        Server::Ignores => {
            drop(reads);
            respond(&mut writer, call).await?;
            None
        }
        Server::Resets(after) => {
            reset(&mut writer, call, after).await?;
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

async fn respond(writer: &mut Writer, call: &Call) -> Result<(), Error> {
    for _ in 0..call.interims {
        writer.respond(http::StatusCode::EARLY_HINTS, &HeaderMap::new(), false)?;
    }
    let ends = call.response.is_empty();
    writer.respond(call.status, &call.response.fields(), ends)?;
    if ends {
        Ok(())
    } else {
        send(writer, &call.response).await
    }
}

async fn reset(writer: &mut Writer, call: &Call, after: usize) -> Result<(), Error> {
    if after > 0 && !call.response.is_empty() {
        writer.respond(call.status, &call.response.fields(), false)?;
        let pieces = call.response.body();
        for mut piece in pieces.into_iter().take(after) {
            while !piece.is_empty() {
                poll_fn(|context| writer.poll_data(context, &mut piece, false)).await?;
            }
        }
    }
    writer.reset(Reason::from(RESET));
    Ok(())
}
