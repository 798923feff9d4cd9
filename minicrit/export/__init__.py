"""Taking a critic out of the house: merged folders, GGUF, Ollama, vLLM (docs/export.md)."""
