//! tokio-tungstenite: one task for each connection, which reads, publishes and sends.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Bytes;
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use crate::topics::{Does, Topics};

/// The default of 128 KiB is zeroed before each read and makes it several times slower.
const READ_BUFFER_BYTES: usize = 4096;

type Socket = WebSocketStream<TcpStream>;

pub(crate) fn spawn(stream: TcpStream, topics: Arc<Topics>) {
    tokio::spawn(async move {
        if let Err(error) = serve(stream, &topics).await {
            eprintln!("peer-server: a connection ended: {error}");
        }
    });
}

async fn serve(stream: TcpStream, topics: &Topics) -> Result<(), Error> {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let mut does = Does::Echo;
    #[allow(clippy::result_large_err, reason = "the crate's own signature")]
    let on_request = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        does = topics.connect(request.uri().path(), request.uri().query());
        Ok(response)
    };
    let mut socket = accept_hdr_async_with_config(stream, on_request, Some(config)).await?;
    match does {
        Does::Echo => {
            while let Some(message) = socket.next().await {
                if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
                    socket.send(message).await?;
                }
            }
        }
        Does::Publish(topic) => {
            while let Some(message) = socket.next().await {
                if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
                    // Nobody may be listening.
                    let _ = topic.send(message.into_data());
                }
            }
        }
        Does::Subscribe(topic, mut deliveries) => loop {
            tokio::select! {
                delivery = deliveries.recv() => {
                    let Ok(delivery) = delivery else { break };
                    deliver(&mut socket, delivery, &mut deliveries).await?;
                }
                message = socket.next() => match message {
                    Some(message) => {
                        if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
                            let _ = topic.send(message.into_data());
                        }
                    }
                    None => break,
                },
            }
        },
    }
    Ok(())
}

/// Sends what waits together.
async fn deliver(socket: &mut Socket, first: Bytes, more: &mut Receiver<Bytes>) -> Result<(), Error> {
    socket.feed(Message::Binary(first)).await?;
    while let Ok(delivery) = more.try_recv() {
        socket.feed(Message::Binary(delivery)).await?;
    }
    socket.flush().await
}
