//! A model server that misbehaves on purpose: JSON over HTTP/1.1, one request per connection. What it scores is made up, and says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::crashing::{Crashing, Serve};
use crate::eventually;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Scores every molecule: minus the length of its SMILES.
    Score,
    /// Answers with this status, these headers and this text.
    Say(u16, &'static str, String),
    /// Announces more of an answer than it sends.
    Half,
    /// Breaks the connection off.
    Reset,
    /// Says nothing for ever.
    Hang,
    /// Scores every molecule, once it may.
    Late,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its JSON.
    pub json: Value,
}

impl Asked {
    /// The ids of the molecules that are to be scored.
    pub fn ids(&self) -> Vec<&str> {
        let molecules = self.json["molecules"].as_array().unwrap();
        molecules.iter().map(|molecule| molecule["molecule_id"].as_str().unwrap()).collect()
    }
}

/// Decides by a request, which is in the list already, and all before it.
type Script = dyn FnMut(&[Asked]) -> Act + Send;

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    checks: usize,
    is_sick: bool,
    may_answer: watch::Sender<bool>,
    /// Requests that hung, and whose other side has gone.
    abandoned: usize,
    script: Option<Box<Script>>,
}

/// A running server. It ends with the test.
#[expect(missing_debug_implementations, reason = "a script has no text")]
pub struct ModelServer {
    server: Crashing<Mutex<State>>,
}

impl ModelServer {
    /// Starts a server that does what `script` says of each request for scores.
    pub async fn start(script: impl FnMut(&[Asked]) -> Act + Send + 'static) -> Self {
        Self::start_at(0, script).await
    }

    /// The same at this port; 0 for any.
    pub async fn start_at(port: u16, script: impl FnMut(&[Asked]) -> Act + Send + 'static) -> Self {
        let state = State { script: Some(Box::new(script)), ..State::default() };
        Self { server: Crashing::start_at(port, Mutex::new(state)).await }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// All requests for scores so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.server.double.lock().unwrap().asked.clone()
    }

    /// How often its health was checked.
    pub fn checks(&self) -> usize {
        self.server.double.lock().unwrap().checks
    }

    /// How many hanging requests were given up by the other side.
    pub fn abandoned(&self) -> usize {
        self.server.double.lock().unwrap().abandoned
    }

    /// Lets it say that it is not well, or that it is again.
    pub fn sicken(&self, is_sick: bool) {
        self.server.double.lock().unwrap().is_sick = is_sick;
    }

    /// Lets it give its late answers from now on.
    pub fn hurry(&self) {
        self.server.double.lock().unwrap().may_answer.send_replace(true);
    }

    /// Waits for this many requests for scores.
    pub async fn until_asked(&self, requests: usize) {
        eventually("the server is asked", || async {
            let asked = self.asked().len();
            if asked >= requests { Ok(()) } else { Err(asked) }
        })
        .await;
    }

    /// Ends it: nobody listens any more, and every connection is cut.
    pub fn crash(&mut self) {
        self.server.crash();
    }

    /// Starts it again at the same place.
    pub async fn restart(&mut self) {
        self.server.restart().await;
    }
}

impl Serve for Mutex<State> {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        answer(stream, &self).await;
    }
}

async fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let Some((path, asked)) = read(&mut stream).await else { return };
    let act = {
        let mut state = state.lock().unwrap();
        if path == "/health" {
            state.checks += 1;
            Act::Say(if state.is_sick { 500 } else { 200 }, "", "{}".into())
        } else if path == "/score" {
            state.asked.push(asked.clone());
            let mut script = state.script.take().unwrap();
            let act = script(&state.asked);
            state.script = Some(script);
            act
        } else {
            Act::Say(404, "", "nothing here".into())
        }
    };
    let (status, headers, body) = match act {
        Act::Score => (200, "", scores(&asked.json).to_string()),
        Act::Late => {
            let mut may_answer = state.lock().unwrap().may_answer.subscribe();
            may_answer.wait_for(|may| *may).await.unwrap();
            (200, "", scores(&asked.json).to_string())
        }
        Act::Say(status, headers, body) => (status, headers, body),
        Act::Half => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n[{\"molecule_id\": \"";
            _ = stream.write_all(head.as_bytes()).await;
            return;
        }
        Act::Reset => {
            stream.set_zero_linger().unwrap();
            return;
        }
        Act::Hang => {
            // The other side sends nothing more: whatever comes is its end.
            _ = stream.read_u8().await;
            state.lock().unwrap().abandoned += 1;
            return;
        }
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    _ = stream.write_all(answer.as_bytes()).await;
}

async fn read(stream: &mut TcpStream) -> Option<(String, Asked)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let path = head.split_whitespace().nth(1).unwrap().to_owned();
    let header =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: BTreeMap<_, _> = head.lines().skip(1).filter_map(header).collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let json = serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Value::Null);
    Some((path, Asked { headers, json }))
}

fn scores(request: &Value) -> Value {
    let score = |molecule: &Value| {
        let length = molecule["smiles"].as_str().map_or(0, str::len);
        json!({ "molecule_id": molecule["molecule_id"], "made_up": -(f64::from(u32::try_from(length).unwrap())) })
    };
    request["molecules"].as_array().unwrap().iter().map(score).collect()
}
