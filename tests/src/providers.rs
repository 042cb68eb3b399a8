//! The providers of models that the contract is put to: echo, recordings of real servers, and a real server where there is one.

use std::env;
use std::sync::Arc;

use libtest_mimic::Trial;
use private_chat_adapters::PROVIDER_KINDS;
use private_chat_adapters::provider::{ProviderConfig, open};
use private_chat_core::model::secret::Secret;
use private_chat_core::port::inference::Inference;

use crate::contract::inference::{ABSENT, ANSWERING, REFUSED_KEY, REFUSING};
use crate::contract::{Fresh, Subject, trials};
use crate::replay;

/// Where a real server of the protocol is, up to and with its `/v1`. It wants no key.
const LLM_URL: &str = "CHAT_TEST_LLM_URL";
/// What must not be missing: names, separated by commas.
const REQUIRE: &str = "CHAT_TEST_REQUIRE";

/// The contract's cases on all of them.
#[must_use]
pub fn all_trials() -> Vec<Trial> {
    [
        trials("echo", "inference", ANSWERING, &Subject::fresh(|| async { provider("echo", None, None) })),
        trials("llama_cpp_recorded", "inference", ANSWERING, &recorded("openai", "llama.cpp", None)),
        trials("llama_cpp_recorded", "inference", REFUSING, &recorded("openai", "llama.cpp", Some(REFUSED_KEY))),
        trials("vllm_recorded", "inference", ANSWERING, &recorded("vllm", "vllm", None)),
        trials("vllm_recorded", "inference", REFUSING, &recorded("vllm", "vllm", Some(REFUSED_KEY))),
        trials("closed_port", "inference", ABSENT, &Subject::fresh(closed_port)),
        trials("llm", "inference", ANSWERING, &real()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn provider(kind: &str, base_url: Option<String>, key: Option<&str>) -> Fresh<dyn Inference> {
    let mut config = ProviderConfig::of_kind(kind);
    config.base_url = base_url;
    config.api_key = key.map(Secret::new);
    let inference: Arc<dyn Inference> = open(PROVIDER_KINDS, kind, &config).expect("a provider").inference;
    Fresh::new(inference)
}

fn recorded(kind: &'static str, server: &'static str, key: Option<&'static str>) -> Subject<dyn Inference> {
    Subject::fresh(move || async move { provider(kind, Some(replay::start(server).await), key) })
}

async fn closed_port() -> Fresh<dyn Inference> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    provider("openai", Some(format!("http://{address}/v1")), None)
}

fn real() -> Subject<dyn Inference> {
    let required = env::var(REQUIRE).unwrap_or_default();
    match env::var(LLM_URL) {
        Ok(url) => Subject::fresh(move || {
            let url = url.clone();
            async move { provider("openai", Some(url), None) }
        }),
        Err(_) if required.split(',').any(|name| name.trim() == "llm") => {
            Subject::Missed(format!("{REQUIRE} names llm, and {LLM_URL} is not set"))
        }
        Err(_) => Subject::Absent(format!("{LLM_URL} is not set")),
    }
}
