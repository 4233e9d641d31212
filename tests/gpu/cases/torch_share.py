"""torch.multiprocessing: a CUDA tensor and an event given to spawned processes, which use the same memory."""

import support

torch = support.torch_or_leave()
LIMIT_S = 120


def worker(number, queue, answers):
    try:
        tensor, event = queue.get(timeout=LIMIT_S)
        if event is not None:
            event.wait()
        seen = tensor[number].sum().item()
        tensor[number].add_(100.0 * (number + 1))
        torch.cuda.synchronize()
        answers.put((number, seen, ""))
        queue.get(timeout=LIMIT_S)  # the tensor must live until the parent has looked
        del tensor, event
    except Exception as error:  # told by the parent
        answers.put((number, 0.0, support.exception_words(error)))


def _share(workers, with_event):
    context = torch.multiprocessing.get_context("spawn")
    answers, queues, processes = context.Queue(), [], []
    tensor = torch.zeros(workers, 1 << 16, device="cuda")
    for number in range(workers):
        tensor[number] = number + 1.0
    event = None
    if with_event:
        event = torch.cuda.Event(interprocess=True)
        event.record()
    else:
        torch.cuda.synchronize()
    try:
        for number in range(workers):
            queues.append(context.Queue())
            processes.append(context.Process(target=worker, args=(number, queues[-1], answers)))
            processes[-1].start()
            queues[-1].put((tensor, event))
        told = sorted(answers.get(timeout=LIMIT_S) for _ in range(workers))
        for number, seen, words in told:
            support.check(not words, "worker", number, words)
            support.check(seen == (number + 1.0) * (1 << 16), "worker", number, "saw", seen)
            support.check(
                bool((tensor[number] == (number + 1) * 101.0).all()), "what worker", number, "wrote is not there"
            )
        for queue in queues:
            queue.put("end")
        for process in processes:
            process.join(LIMIT_S)
            support.check(process.exitcode == 0, "a worker ended with", process.exitcode)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
    return [seen for _, seen, _ in told]


def a_tensor_for_two():
    support.result("tensor", _share(2, False))


def a_tensor_and_an_event():
    support.result("event", _share(1, True))


if __name__ == "__main__":
    support.run(a_tensor_for_two, a_tensor_and_an_event)
