//! A TCP relay in front of a daemon which lets a given number of bytes through to it and then holds the rest back: so a
//! test decides how much of an upload has arrived, without any clock.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Bytes that are moved at once.
const CHUNK_BYTES: usize = 16 << 10;

pub(crate) struct Gate {
    /// What clients connect to.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Bytes that may still pass towards the daemon; `None`: any number.
    left: Option<usize>,
    /// Somebody has bytes that may not pass.
    held: bool,
    /// Both ends of every connection there was.
    ends: Vec<TcpStream>,
}

impl Gate {
    /// Before `daemon`, on the daemon's own host address; `bytes` may pass towards it, over all connections.
    pub(crate) fn new(daemon: SocketAddr, bytes: usize) -> Self {
        let listener = TcpListener::bind((daemon.ip(), 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Mutex::new(State { left: Some(bytes), held: false, ends: Vec::new() });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let inner = Arc::clone(&shared);
        // It ends with the process, as the connections do with either side.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A daemon that isn't there: the client sees its connection end.
                let Ok(server) = TcpStream::connect(daemon) else { continue };
                relay(client, server, &inner);
            }
        });
        Self { address, shared }
    }

    /// Waits until all that may pass has passed, and more wants to.
    pub(crate) fn wait_until_held(&self) {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.shared.changed.wait_while(state, |state| !state.held);
        drop(held.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets everything through from now on.
    pub(crate) fn open(&self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.left, state.held) = (None, false);
        self.shared.changed.notify_all();
    }

    /// Ends every connection, as a daemon sees the death of its clients, and lets everything through from now on.
    pub(crate) fn cut(&self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        for end in state.ends.drain(..) {
            // It may have ended by itself.
            let _ = end.shutdown(Shutdown::Both);
        }
        drop(state);
        self.open();
    }
}

fn relay(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    if let (Ok(a), Ok(b)) = (client.try_clone(), server.try_clone()) {
        shared.state.lock().unwrap_or_else(PoisonError::into_inner).ends.extend([a, b]);
    }
    let shared = Arc::clone(shared);
    thread::spawn(move || forward(client, server, |wanted| shared.take(wanted)));
    thread::spawn(move || forward(server_too, client_too, |wanted| wanted));
}

fn forward(mut from: TcpStream, mut to: TcpStream, take: impl Fn(usize) -> usize) {
    let mut buffer = [0; CHUNK_BYTES];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let mut sent = 0;
        while sent < len {
            let part = take(len - sent);
            if to.write_all(&buffer[sent..sent + part]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            sent += part;
        }
    }
    // Either side may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

impl Shared {
    /// How many of `wanted` bytes may pass, at least one: waits for it.
    fn take(&self, wanted: usize) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.left == Some(0) {
            state.held = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let part = state.left.map_or(wanted, |left| left.min(wanted));
        state.left = state.left.map(|left| left - part);
        part
    }
}
