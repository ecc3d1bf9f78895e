"""The methods taken from Hugging Face PEFT."""
