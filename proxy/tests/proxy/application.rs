//! A real HTTP server behind a proxy: it remembers what it was asked, byte for byte of the head.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers everything with `ok`; `/stream` with a body that does not end.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Application {
    pub(crate) async fn http() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
    }

    pub(crate) async fn answering(answer: &'static str) -> Self {
        Self::listening(move |stream, heads| serve(stream, answer, heads)).await
    }

    async fn listening<F>(
        serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&heads);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&seen)));
            }
        });
        Self {
            address,
            heads,
            _tasks: tasks,
        }
    }

    /// Answers a connection's first request with `answer`, and then gives back what it gets until
    /// that ends.
    pub(crate) async fn switching(answer: &'static str) -> Self {
        Self::listening(move |stream, heads| switch(stream, answer, heads)).await
    }

    /// Every request head so far, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn switch(mut stream: TcpStream, answer: &str, heads: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break at + 4;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    };
    let early = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    heads.lock().unwrap().push(head);
    let (mut read, mut write) = stream.split();
    let echo = async {
        write.write_all(answer.as_bytes()).await?;
        write.write_all(&early).await?;
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    };
    // The proxy may cut it.
    drop(echo.await);
}

async fn serve(mut stream: TcpStream, answer: &str, heads: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    loop {
        while let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            bytes.drain(..end + 4);
            let streams = head.contains(" /stream ");
            heads.lock().unwrap().push(head);
            let endless = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nfirst";
            let text = if streams { endless } else { answer };
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}
