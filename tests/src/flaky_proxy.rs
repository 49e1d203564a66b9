//! A way to a Redis that breaks, falls silent, drags, or loses the answers of chosen scripts: the script runs, then the connection
//! breaks. Knows of scripts only their digests. In front of a sentinel, it also stands before the servers that the sentinel names.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::queue::SOURCES;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How much is carried at once: far more than any request of a test.
const CHUNK_BYTES: usize = 64 * 1024;

/// A TCP proxy in front of a Redis. It ends with the test.
#[derive(Debug)]
pub struct FlakyProxy {
    port: u16,
    faults: Arc<Faults>,
    line: watch::Sender<Line>,
    cuts: watch::Sender<()>,
    names: Arc<Names>,
    listeners: Vec<JoinHandle<()>>,
}

/// How a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It carries everything at once.
    Fair,
    /// Whatever it carries takes this much longer.
    Slow(Duration),
    /// It carries nothing, and keeps what comes until it carries again.
    Silent,
    /// It takes no new connections.
    Down,
}

/// The same for one connection.
#[derive(Debug, Clone)]
struct Weather {
    line: watch::Receiver<Line>,
    cuts: watch::Receiver<()>,
}

/// Where connections of one listener lead.
#[derive(Debug, Clone)]
struct Route {
    to: u16,
    faults: Arc<Faults>,
    /// What to make of the servers that the other side names, if it is a sentinel.
    names: Option<Arc<Names>>,
}

/// How the servers of a sentinel are called by those who ask it through the proxy: by the way that leads to each.
#[derive(Debug, Default)]
struct Names {
    /// The port of each server, and that of the way to it.
    ways: Vec<(u16, u16)>,
    /// The server that goes by the name of all.
    stranded_at: Mutex<Option<u16>>,
}

/// Which answers to lose: one counter for each script, by the digest that `EVALSHA` names.
#[derive(Debug)]
struct Faults {
    scripts: Vec<Fault>,
}

#[derive(Debug)]
struct Fault {
    verb: &'static str,
    digest: String,
    to_lose: AtomicU32,
    lost: AtomicU32,
}

impl FlakyProxy {
    /// Listens on a free port of this machine, in front of the Redis on port `to`.
    pub async fn start(to: u16) -> Self {
        let mut proxy = Self::new();
        proxy.port = proxy.listen(to, None).await;
        proxy
    }

    /// The same in front of a sentinel. Those who ask it there are led to its servers through the same bad weather.
    pub async fn in_front_of_sentinel(sentinel: u16, servers: [u16; 2]) -> Self {
        let mut proxy = Self::new();
        let mut ways = Vec::new();
        for server in servers {
            ways.push((server, proxy.listen(server, None).await));
        }
        proxy.names = Arc::new(Names { ways, stranded_at: Mutex::new(None) });
        proxy.port = proxy.listen(sentinel, Some(Arc::clone(&proxy.names))).await;
        proxy
    }

    #[expect(clippy::disallowed_methods, reason = "the proxy has to recognise the scripts on the wire")]
    fn new() -> Self {
        let fault = |(verb, source): &(&'static str, &str)| Fault {
            verb,
            digest: redis::Script::new(source).get_hash().to_owned(),
            to_lose: AtomicU32::new(0),
            lost: AtomicU32::new(0),
        };
        let faults = Arc::new(Faults { scripts: SOURCES.iter().map(fault).collect() });
        let (line, cuts) = (watch::Sender::new(Line::Fair), watch::Sender::new(()));
        Self { port: 0, faults, line, cuts, names: Arc::default(), listeners: Vec::new() }
    }

    /// Listens on one more port, and says on which.
    async fn listen(&mut self, to: u16, names: Option<Arc<Names>>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let weather = Weather { line: self.line.subscribe(), cuts: self.cuts.subscribe() };
        let route = Route { to, faults: Arc::clone(&self.faults), names };
        self.listeners.push(tokio::spawn(accept(listener, route, weather)));
        port
    }

    /// From now on, leads those who ask the sentinel to this one of its servers, whatever the sentinel says; `None` ends that.
    pub fn strand(&self, at: Option<u16>) {
        *self.names.stranded_at.lock().unwrap() = at;
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Changes how the line is. Connections that are there stay.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Breaks all connections that are there.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// The URL of the Redis behind it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Loses the next `times` answers of a script.
    pub fn lose(&self, verb: &str, times: u32) {
        self.faults.of(verb).to_lose.store(times, Ordering::SeqCst);
    }

    /// How many answers of a script were lost so far.
    pub fn lost(&self, verb: &str) -> u32 {
        self.faults.of(verb).lost.load(Ordering::SeqCst)
    }
}

impl Drop for FlakyProxy {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

impl Names {
    /// What a sentinel says, with the ways in the place of its servers.
    fn translate(&self, answer: &[u8]) -> Vec<u8> {
        let stranded_at = *self.stranded_at.lock().unwrap();
        let way = |server: u16| self.ways.iter().find(|(port, _)| *port == server).map(|(_, way)| *way);
        let bulk = |port: u16| format!("${}\r\n{port}\r\n", port.to_string().len());
        let text = String::from_utf8_lossy(answer).into_owned();
        let replace = |text: String, (server, to): &(u16, u16)| {
            text.replace(&bulk(*server), &bulk(stranded_at.and_then(way).unwrap_or(*to)))
        };
        self.ways.iter().fold(text, replace).into_bytes()
    }
}

impl Faults {
    fn of(&self, verb: &str) -> &Fault {
        self.scripts.iter().find(|fault| fault.verb == verb).unwrap()
    }

    /// The fault whose script this request runs, if its answer is to be lost.
    fn concerning(&self, request: &[u8]) -> Option<&Fault> {
        let names = |digest: &str| request.windows(digest.len()).any(|part| part == digest.as_bytes());
        let mut armed = self.scripts.iter().filter(|fault| fault.to_lose.load(Ordering::SeqCst) > 0);
        armed.find(|fault| names(&fault.digest))
    }
}

/// Takes connections as long as the test lasts.
async fn accept(listener: TcpListener, route: Route, weather: Weather) {
    while let Ok((client, _)) = listener.accept().await {
        let (route, mut weather) = (route.clone(), weather.clone());
        if *weather.line.borrow() == Line::Down {
            continue;
        }
        weather.cuts.mark_unchanged();
        tokio::spawn(async move {
            // An error is a broken connection, which the test wants or the worker notices.
            tokio::select! {
                _ = carry(client, route, weather.line) => {}
                _ = weather.cuts.changed() => {}
            }
        });
    }
}

/// Waits until the line carries what has come.
async fn pass(line: &mut watch::Receiver<Line>) {
    let now = *line.borrow_and_update();
    match now {
        Line::Fair | Line::Down => {}
        Line::Slow(by) => tokio::time::sleep(by).await,
        // An error means that the proxy has ended, and this connection with it.
        Line::Silent => _ = line.wait_for(|line| *line != Line::Silent).await,
    }
}

/// Carries one connection until either side ends it or an answer is lost.
async fn carry(mut client: TcpStream, route: Route, mut line: watch::Receiver<Line>) -> io::Result<()> {
    let Route { to, faults, names } = route;
    let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
    let (mut request, mut answer) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut losing: Option<&Fault> = None;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let request = &request[..read?];
                if request.is_empty() {
                    return Ok(());
                }
                losing = faults.concerning(request).or(losing);
                pass(&mut line).await;
                server.write_all(request).await?;
            }
            read = server.read(&mut answer) => {
                let answer = &answer[..read?];
                if answer.is_empty() {
                    return Ok(());
                }
                pass(&mut line).await;
                // The script must have run; after this answer it is loaded and called again.
                if let Some(fault) = losing.take().filter(|_| !answer.starts_with(b"-NOSCRIPT")) {
                    fault.to_lose.fetch_sub(1, Ordering::SeqCst);
                    fault.lost.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                match &names {
                    Some(names) => client.write_all(&names.translate(answer)).await?,
                    None => client.write_all(answer).await?,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sentinel_names_is_called_by_the_way_to_it() {
        let names = Names { ways: vec![(40_001, 51), (40_002, 52)], stranded_at: Mutex::new(None) };
        let says = |port: &str| format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
        let heard = |port: &str| String::from_utf8(names.translate(says(port).as_bytes())).unwrap();
        assert_eq!([heard("40001"), heard("40002"), heard("40003")], [says("51"), says("52"), says("40003")]);
        *names.stranded_at.lock().unwrap() = Some(40_001);
        assert_eq!([heard("40001"), heard("40002"), heard("40003")], [says("51"), says("51"), says("40003")]);
    }
}
