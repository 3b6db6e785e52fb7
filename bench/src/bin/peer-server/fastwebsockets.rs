//! fastwebsockets on hyper: one task for an echo; a subscriber has two, one that reads
//! and one that sends.

use std::convert::Infallible;
use std::sync::Arc;

use ::fastwebsockets::upgrade::{UpgradeFut, upgrade};
use ::fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite,
};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::broadcast::{Receiver, Sender};

use crate::topics::{Does, Topics};

type Stream = TokioIo<Upgraded>;

pub(crate) fn spawn(stream: TcpStream, topics: Arc<Topics>) {
    tokio::spawn(async move {
        let service = service_fn(|request| on_request(request, topics.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        if let Err(error) = connection.await {
            eprintln!("peer-server: a connection was not upgraded: {error}");
        }
    });
}

async fn on_request(
    mut request: Request<Incoming>,
    topics: Arc<Topics>,
) -> Result<Response<http_body_util::Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    let does = topics.connect(request.uri().path(), request.uri().query());
    tokio::spawn(async move {
        if let Err(error) = tokio::task::unconstrained(serve(upgraded, does)).await {
            eprintln!("peer-server: a connection ended: {error}");
        }
    });
    Ok(response)
}

async fn serve(upgraded: UpgradeFut, does: Does) -> Result<(), WebSocketError> {
    let socket = upgraded.await?;
    match does {
        Does::Echo => {
            let mut socket = FragmentCollector::new(socket);
            loop {
                let frame = socket.read_frame().await?;
                match frame.opcode {
                    OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
                    OpCode::Close => return Ok(()),
                    _ => {}
                }
            }
        }
        Does::Publish(topic) => {
            let mut socket = FragmentCollector::new(socket);
            loop {
                let frame = socket.read_frame().await?;
                if publish(&topic, frame).is_none() {
                    return Ok(());
                }
            }
        }
        Does::Subscribe(topic, deliveries) => {
            let (reader, writer) = socket.split(tokio::io::split);
            tokio::spawn(deliver(writer, deliveries));
            read(FragmentCollectorRead::new(reader), topic).await
        }
    }
}

/// `None` if the frame ends the connection.
fn publish(topic: &Sender<Bytes>, frame: Frame<'_>) -> Option<()> {
    match frame.opcode {
        OpCode::Text | OpCode::Binary => {
            // Nobody may be listening.
            let _ = topic.send(Bytes::copy_from_slice(&frame.payload));
        }
        OpCode::Close => return None,
        _ => {}
    }
    Some(())
}

async fn read(mut reader: FragmentCollectorRead<ReadHalf<Stream>>, topic: Sender<Bytes>) -> Result<(), WebSocketError> {
    // Nothing is answered: the load sends no pings.
    let mut no_answer = async |_: Frame<'_>| Ok::<_, Infallible>(());
    loop {
        let frame = reader.read_frame(&mut no_answer).await?;
        if publish(&topic, frame).is_none() {
            return Ok(());
        }
    }
}

async fn deliver(mut writer: WebSocketWrite<WriteHalf<Stream>>, mut deliveries: Receiver<Bytes>) {
    while let Ok(delivery) = deliveries.recv().await {
        let frame = Frame::binary(Payload::Borrowed(&delivery));
        if let Err(error) = writer.write_frame(frame).await {
            eprintln!("peer-server: a connection ended: {error}");
            return;
        }
    }
}
