//! A double of a TeraChem server, which can't be had: it speaks the protocol of the published `.proto`, computes nothing, is busy, slow,
//! crashes, restarts and talks nonsense. Its energies are made up: minus the number of atoms, in hartree.

use std::sync::{Arc, Mutex};

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use worker::terachem_proto::status::JobStatus;
use worker::terachem_proto::{JobInput, JobOutput, MessageType, Status};

use crate::crashing::{Crashing, Serve};
use crate::eventually;

/// What the server does with a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Job {
    /// Computes it; so many questions for its status are answered with `working`.
    Compute(u32),
    /// Gives this energy instead.
    Energy(f64),
    /// Says that it is busy.
    Busy,
    /// Breaks off before the job is accepted.
    Refuse,
    /// Says that it does not take it, and is not busy.
    Decline,
    /// Accepts it and crashes in the middle of it.
    Crash,
    /// Accepts it, and knows nothing of it when it is asked.
    Forget,
    /// Sends half of the output.
    Half,
    /// Sends an output without an energy.
    Empty,
    /// Sends the output of another job.
    Other,
    /// Sends its output with one atom less.
    OtherAtoms,
    /// Sends bytes that are no message.
    Garbage,
    /// Sends a message of a kind that nobody asked for.
    WrongKind,
    /// Announces a message of 4 GiB.
    Oversized,
}

type Script = dyn FnMut(usize, &JobInput) -> Job + Send;

struct State {
    jobs: Vec<JobInput>,
    script: Box<Script>,
}

/// A running server. It ends with the test.
#[expect(missing_debug_implementations, reason = "a script has no text")]
pub struct TerachemServer {
    server: Crashing<Mutex<State>>,
}

impl TerachemServer {
    /// Starts a server that does what `script` says of each job, counted from 1.
    pub async fn start(script: impl FnMut(usize, &JobInput) -> Job + Send + 'static) -> Self {
        let state = State { jobs: Vec::new(), script: Box::new(script) };
        Self { server: Crashing::start(Mutex::new(state)).await }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("terachem://127.0.0.1:{}", self.server.port)
    }

    /// All jobs that were submitted.
    pub fn jobs(&self) -> Vec<JobInput> {
        self.server.double.lock().unwrap().jobs.clone()
    }

    /// Waits until this many jobs were submitted.
    pub async fn until_submitted(&self, jobs: usize) {
        eventually("jobs are submitted", || async {
            let submitted = self.jobs().len();
            if submitted >= jobs { Ok(()) } else { Err(submitted) }
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
        // `None` is a connection that ended, on either side.
        _ = converse(stream, &self).await;
    }
}

async fn converse(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut current: Option<(Job, i32, JobInput)> = None;
    loop {
        let (kind, bytes) = receive(&mut stream).await?;
        if kind == MessageType::Jobinput as u32 {
            let input = JobInput::decode(&*bytes).unwrap();
            let (job, number) = {
                let mut state = state.lock().unwrap();
                state.jobs.push(input.clone());
                let number = state.jobs.len();
                ((state.script)(number, &input), i32::try_from(number).unwrap())
            };
            let (is_busy, is_taken) = (job == Job::Busy, !matches!(job, Job::Busy | Job::Decline));
            if job == Job::Refuse {
                return None;
            }
            let job_status = (!is_busy).then_some(JobStatus::Accepted(is_taken));
            let job_dir = format!("server_scratch/job_{number}");
            let status =
                Status { busy: is_busy, job_status, job_dir, server_job_id: number, ..Status::default() };
            send(&mut stream, MessageType::Status, &status.encode_to_vec()).await?;
            current = is_taken.then_some((job, number, input));
            continue;
        }
        let Some((job, number, input)) = &mut current else {
            send(&mut stream, MessageType::Status, &Status::default().encode_to_vec()).await?;
            continue;
        };
        answer(&mut stream, job, *number, input).await?;
    }
}

/// Answers the question how a job is going.
async fn answer(stream: &mut TcpStream, job: &mut Job, number: i32, input: &JobInput) -> Option<()> {
    let status = |job_status| Status { busy: true, job_status, server_job_id: number, ..Status::default() };
    match job {
        Job::Crash => return None,
        Job::Forget => return send(stream, MessageType::Status, &Status::default().encode_to_vec()).await,
        Job::Garbage => return send(stream, MessageType::Status, &[0xff; 9]).await,
        Job::WrongKind => return send(stream, MessageType::Joboutput, &[]).await,
        Job::Oversized => {
            let header = [(MessageType::Status as u32).to_be_bytes(), u32::MAX.to_be_bytes()].concat();
            return stream.write_all(&header).await.ok();
        }
        Job::Compute(left) if *left > 0 => {
            *left -= 1;
            let working = status(Some(JobStatus::Working(true)));
            return send(stream, MessageType::Status, &working.encode_to_vec()).await;
        }
        _ => {}
    }
    let completed = status(Some(JobStatus::Completed(true)));
    send(stream, MessageType::Status, &completed.encode_to_vec()).await?;
    let mut mol = input.mol.clone().unwrap();
    let atoms = f64::from(u32::try_from(mol.atoms.len()).unwrap());
    let energy = match job {
        Job::Energy(energy) => vec![*energy],
        Job::Empty => Vec::new(),
        _ => vec![-atoms],
    };
    if *job == Job::OtherAtoms {
        mol.atoms.pop();
    }
    let server_job_id = if *job == Job::Other { number + 1 } else { number };
    let output = JobOutput { mol: Some(mol), energy, server_job_id, ..JobOutput::default() }.encode_to_vec();
    if *job == Job::Half {
        let mut packet = header(MessageType::Joboutput, output.len());
        packet.extend(&output[..output.len() / 2]);
        stream.write_all(&packet).await.ok()?;
        return None;
    }
    send(stream, MessageType::Joboutput, &output).await
}

fn header(kind: MessageType, size: usize) -> Vec<u8> {
    [(kind as u32).to_be_bytes(), u32::try_from(size).unwrap().to_be_bytes()].concat()
}

async fn send(stream: &mut TcpStream, kind: MessageType, message: &[u8]) -> Option<()> {
    let packet = [&header(kind, message.len())[..], message].concat();
    stream.write_all(&packet).await.ok()
}

async fn receive(stream: &mut TcpStream) -> Option<(u32, Vec<u8>)> {
    let kind = stream.read_u32().await.ok()?;
    let mut bytes = vec![0; stream.read_u32().await.ok()? as usize];
    stream.read_exact(&mut bytes).await.ok()?;
    Some((kind, bytes))
}
