//! The providers of models that the contract is put to: those that need nothing, recordings of real servers, and a real one where there is one.

use std::sync::Arc;

use libtest_mimic::Trial;
use private_chat_adapters::PROVIDER_KINDS;
use private_chat_adapters::memory::{Script, ScriptedInference};
use private_chat_adapters::provider::{ProviderConfig, open};
use private_chat_core::model::secret::Secret;
use private_chat_core::port::inference::Inference;

use crate::contract::inference::{ABSENT, ANSWERING, REFUSED_KEY, REFUSING, THINKING};
use crate::contract::{Fresh, Subject, trials};
use crate::replay;
use crate::servers::Servers;

/// The contract's cases on all of them.
#[must_use]
pub fn providers(servers: &Arc<Servers>) -> Vec<Trial> {
    let servers = servers.clone();
    [
        trials("memory", "inference", ANSWERING, || Subject::fresh(|| async { scripted() })),
        trials("memory", "inference", THINKING, || Subject::fresh(|| async { scripted() })),
        trials("echo", "inference", ANSWERING, || Subject::fresh(|| async { opened("echo", None, None) })),
        trials("llama_cpp_recorded", "inference", ANSWERING, || recorded("openai", "llama.cpp", None)),
        trials("llama_cpp_recorded", "inference", THINKING, || recorded("openai", "llama.cpp", None)),
        trials("llama_cpp_recorded", "inference", REFUSING, || recorded("openai", "llama.cpp", Some(REFUSED_KEY))),
        trials("vllm_recorded", "inference", ANSWERING, || recorded("vllm", "vllm", None)),
        trials("vllm_recorded", "inference", THINKING, || recorded("vllm", "vllm", None)),
        trials("vllm_recorded", "inference", REFUSING, || recorded("vllm", "vllm", Some(REFUSED_KEY))),
        trials("closed_port", "inference", ABSENT, || Subject::fresh(closed_port)),
        trials("llm", "inference", ANSWERING, move || match servers.llm() {
            Ok(url) => Subject::fresh(move || {
                let url = url.clone();
                async move { opened("openai", Some(url), None) }
            }),
            Err(absence) => Subject::Absent(absence),
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn scripted() -> Fresh<dyn Inference> {
    let script = Script::new().reasoning("Hm.").content("Good ").content("day.").finish("stop").usage(1, 3);
    Fresh::new(Arc::new(ScriptedInference::new(script)))
}

fn opened(kind: &str, base_url: Option<String>, key: Option<&str>) -> Fresh<dyn Inference> {
    let mut config = ProviderConfig::of_kind(kind);
    config.base_url = base_url;
    config.api_key = key.map(Secret::new);
    Fresh::new(open(PROVIDER_KINDS, kind, &config).expect("a provider").inference)
}

fn recorded(kind: &'static str, server: &'static str, key: Option<&'static str>) -> Subject<dyn Inference> {
    Subject::fresh(move || async move { opened(kind, Some(replay::start(server).await), key) })
}

async fn closed_port() -> Fresh<dyn Inference> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    opened("openai", Some(format!("http://{address}/v1")), None)
}
