"""GPT-2 (124M, random weights, fp16): greedy decoding gives the same tokens; tokens a second."""

import support

ALONE = True
torch = support.torch_or_leave()
transformers = support.need("transformers")
dev = support.DEVICE
TOKENS = 64


def decode():
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).to(dev).half().eval()
    ids = torch.randint(0, 50000, (1, 32), device=dev)

    def generate():
        with torch.no_grad():
            return model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                do_sample=False,
                pad_token_id=0,
            )

    tokens = generate()[0, 32:].tolist()
    support.check(len(tokens) == TOKENS, "decoded", len(tokens), "tokens")
    support.result("tokens", tokens)
    seconds = support.median_seconds(generate, 1, torch.cuda.synchronize, warm=1, passes=5)
    support.figure("decode", TOKENS / seconds, "tok/s", "higher")


def prefill():
    torch.manual_seed(1)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=4)).to(dev).eval()
    ids = torch.randint(0, 50000, (4, 128), device=dev)
    with torch.no_grad():
        logits = model(ids).logits
        reference = model.double().cpu()(ids.cpu()).logits
    support.close("logits", logits, reference, 5e-3)


support.run(decode, prefill)
