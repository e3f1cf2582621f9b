//! The door: a port on 127.0.0.1 inside, and behind it a socket of the server's.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;

/// How many connections there are at once; more wait.
const CONNECTIONS: usize = 64;

pub(super) async fn open(port: u16, socket: PathBuf) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of files, most likely: some will be closed.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let socket = socket.clone();
            tokio::spawn(async move {
                let _permit = permit;
                // Who is inside sees a connection that ends; why is for the server's log.
                pass(stream, &socket).await.ok();
            });
        }
    });
    Ok(())
}

async fn pass(mut inside: TcpStream, socket: &Path) -> io::Result<()> {
    inside.set_nodelay(true)?;
    let mut outside = UnixStream::connect(socket).await?;
    tokio::io::copy_bidirectional(&mut inside, &mut outside).await?;
    Ok(())
}
