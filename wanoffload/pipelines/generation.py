"""A call at work: plan, encode, denoise, decode, each component in its turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from wanoffload.devices import card
from wanoffload.models.vae import ENCODER
from wanoffload.offload import OffloadSettings, auto_offload_settings
from wanoffload.pipelines import checks
from wanoffload.pipelines.denoise import Denoiser, Expert, Sizes
from wanoffload.pipelines.experts import LOW, expert_at, taking_turns
from wanoffload.pipelines.footprint import array_bytes
from wanoffload.pipelines.frames import FrameWriter
from wanoffload.pipelines.planning import Phase, Planner, plan_turns
from wanoffload.pipelines.request import Request, fill_embeds, unique_ids
from wanoffload.pipelines.timing import predict_call
from wanoffload.plan import ComponentPlan, PipelinePlan
from wanoffload.report import ComponentReport, PipelineReport
from wanoffload.sizes import format_size

Maker = Callable[[dict[str, Any]], Any]


def plan_call(pipe: Any, request: Request, engine: Any) -> PipelinePlan:
    """Plans every component that a call needs.

    Raises:
        PlanError: The budgets cannot hold it.
    """
    turns = taking_turns(pipe, request.experts)
    planner = _planner(pipe, request, engine, turns)
    if turns and pipe.part(turns[0])[0].offload.kind == "auto":
        plan = plan_turns(planner, _planner(pipe, request, engine, ()), turns, request.steps)
    else:
        plan = planner.plan()
        plan.turns = dict.fromkeys(turns[1:], request.experts[0])
    plan.notes += request.notes
    runtime = pipe.runtime
    if not engine.host_addressable and plan.vram > card(runtime.device)["memory_bytes"]:
        plan.notes.append(
            f"more than the {format_size(card(runtime.device)['memory_bytes'])} of the card: "
            "pipe.enable_auto_offload() plans it to fit"
        )
    rates = runtime.rates
    plan.prediction = None if rates is None else predict_call(pipe, request, plan, rates)
    return plan


def smallest_planner(pipe: Any, request: Request, engine: Any) -> Planner:
    """What plans a call with as little of the device's memory as it takes, whatever the offload settings are."""
    return _planner(pipe, request, engine, (), auto_offload_settings(vram=0))


def _planner(
    pipe: Any, request: Request, engine: Any, turns: tuple[str, ...], settings: OffloadSettings | None = None
) -> Planner:
    """What plans a call in which those experts run in one execution, whose phase has the first one's name.

    settings: For every network, instead of its own.
    """
    networks, arrays, phases = pipe.networks(), array_bytes(pipe, request), []
    for name, make in phase_makers(pipe, request, engine, turns).items():
        weights = sum(pipe.part(one)[1].bytes for one in (turns if name in turns else (name,)))
        output = request.output_bytes if name == "vae" else 0
        phases.append(Phase(name, settings or pipe.part(name)[0].offload, make, weights, output, arrays[name]))
    running = sum(phase.weight_bytes for phase in phases if phase.stays)
    resident = sum(one.bytes for one in networks.values() if (settings or one.offload).kind == "none")
    return Planner(phases, resident - running, engine.host_addressable, request.describe())


def phase_makers(pipe: Any, request: Request, engine: Any, turns: tuple[str, ...]) -> dict[str, Maker]:
    """What makes the core's plan of each component that a call needs, in the order they run; that of the first of the
    experts that take turns is of all of them."""
    networks, condition = pipe.networks(), request.condition
    _, _, frames, height, width = request.latent_shape
    makers: dict[str, Maker] = {}
    if request.encodes and "text_encoder" in networks:
        tokens = [len(ids) for ids in unique_ids(request.texts())]
        makers["text_encoder"] = lambda policy: networks["text_encoder"].plan_tokens(engine, tokens, policy)
    if condition is not None and condition.pictures:
        count = sum(len(pictures) for pictures in condition.pictures)
        makers["image_encoder"] = lambda policy: networks["image_encoder"].plan_images(engine, count, policy)
    if condition is not None:
        makers[ENCODER] = lambda policy: networks["vae"].plan_pixels(engine, request.height, request.width, policy)
    sizes = request.sizes()
    second = networks[turns[1]] if turns else None
    for name in turns[:1] or request.experts:
        makers[name] = partial(
            networks[name].plan_video,
            engine,
            frames,
            height,
            width,
            sizes,
            images=request.images(len(sizes)),
            second=second,
        )
    if request.decodes:
        makers["vae"] = lambda policy: networks["vae"].plan_frames(engine, height, width, policy)
    return makers


class Generation:
    """The work of one call.

    Args:
        pipe: The pipeline; its guidance and interrupt are read at every step.
        engine: The engine to run on.
        plan: From `plan_call`.
        request: The checked call.
        report: What happens is added to it.
    """

    def __init__(self, pipe: Any, engine: Any, plan: PipelinePlan, request: Request, report: PipelineReport) -> None:
        self._pipe = pipe
        self._engine = engine
        self._plan = plan
        self._request = request
        self._report = report
        self._planned_sizes = request.sizes()
        budgeted = any(value is not None for value in plan.budget.values())
        for name in pipe.part_names():
            settings = pipe.part(name)[0].offload
            if plan.part(name) is not None or settings.kind == "auto" or (budgeted and settings.offloaded):
                self._make_room(name)

    def _make_room(self, name: str) -> None:
        """Lets go of what the plan says a component does not keep."""
        core, plan = self._pipe.part(name)[1], self._plan.part(name)
        if plan is None or not plan.keep_slabs:
            self._engine.drop(core)
        elif not plan.keep_residents:
            self._engine.drop_residents(core)

    def _enter(self, name: str) -> tuple[ComponentPlan, ComponentReport]:
        """Begins a component's turn. Who offloads wants a small arena, even without a budget."""
        plan = self._plan.components[name]
        if plan.settings.offloaded and self._engine.held()["arena_bytes"] > plan.summary["work_bytes"]:
            self._engine.release_arena()
        report = self._report.component(name)
        report.name = self._plan.title(name)
        report.ram_others = plan.ram_others
        return plan, report

    def encode(self) -> None:
        """Encodes texts, pictures and frames: whatever the call was given of each."""
        self._encode_texts()
        self._encode_pictures()
        self._encode_frames()

    def _encode_texts(self) -> None:
        """Encodes every text that is not embedded yet, all in one pass over the weights."""
        texts = self._request.texts()
        unique = unique_ids(texts)
        if not unique:
            return
        plan, report = self._enter("text_encoder")
        with self._pipe.text_encoder.running(self._engine, plan.core, report) as execution:
            encoded = execution.encode(unique)
        self._make_room("text_encoder")
        fill_embeds(texts, unique, encoded)

    def _encode_pictures(self) -> None:
        """Encodes the pictures of every source, all in one pass over the weights."""
        condition = self._request.condition
        if condition is None or not condition.pictures:
            return
        plan, report = self._enter("image_encoder")
        encoder = self._pipe.image_encoder
        pictures = [picture for pair in condition.pictures for picture in pair]
        pixels = self._pipe.image_processor(pictures, return_tensors="np").pixel_values
        patches = encoder.patches(encoder.check_pixels(pixels))
        with encoder.running(self._engine, plan.core, report) as execution:
            embeds = execution.encode_images(patches)
        self._make_room("image_encoder")
        condition.embeds = embeds.reshape(len(condition.pictures), condition.rows, embeds.shape[-1])

    def _encode_frames(self) -> None:
        """Encodes the frames of every source; the latents are normalised as the transformer knows them."""
        condition = self._request.condition
        if condition is None:
            return
        plan, report = self._enter(ENCODER)
        vae = self._pipe.vae
        mean, inverse = self._latent_scale()
        _, channels, *size = self._request.latent_shape
        condition.latents = np.empty((len(condition.chunks), channels, *size), np.float32)
        for latents, chunks in zip(condition.latents, condition.chunks, strict=True):
            moments = vae.encode_chunks(self._engine, chunks, plan.core, report, plan.policy)
            latents[:] = (moments[:channels] - mean[0]) * inverse[0]
        self._make_room(ENCODER)

    def _latent_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the VAE's latents and the inverse of their deviation, [1, z_dim, 1, 1, 1] each."""
        config = self._pipe.vae.config
        shape = (1, config.z_dim, 1, 1, 1)
        inverse = np.float32(1.0) / np.asarray(config.latents_std, np.float32)
        return np.asarray(config.latents_mean, np.float32).reshape(shape), inverse.reshape(shape)

    def denoise(
        self, latents: np.ndarray, timesteps: np.ndarray, callback: Callable[..., Any] | None, tensors: list[str]
    ) -> np.ndarray:
        """Runs the sampling loop over latents, float32, which it may change.

        Args:
            latents: The noise, or what the loop starts from.
            timesteps: The scheduler's, from `begin_schedule`.
            callback: Called after each, or None.
            tensors: What it gets.

        Returns:
            The latents at the end, or where the call was interrupted.
        """
        pipe, scheduler = self._pipe, self._pipe.scheduler
        cond = self._request.cond.embeds
        uncond = self._request.uncond.embeds if self._request.uncond is not None else None
        experts = [expert_at(pipe, t) for t in timesteps]
        with (
            Denoiser(self._engine, self._experts(), self._request.condition) as denoiser,
            pipe.progress_bar(total=len(timesteps)) as progress,
        ):
            for i, t in enumerate(timesteps):
                if pipe.interrupt:
                    self._report.interrupted = True
                    break
                pipe._current_timestep = t
                denoiser.begin(experts[i])
                denoiser.set_text(cond, self._branch(uncond, i), latents)
                guidance = pipe.guidance_scale_2 if experts[i] == LOW else pipe.guidance_scale
                following = experts[i + 1] if i + 1 < len(timesteps) and not pipe.interrupt else None
                velocity = denoiser.velocity(latents, float(t), guidance, following)
                latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
                latents = np.ascontiguousarray(latents, np.float32)
                self._report.steps += 1
                if callback is not None:
                    latents, cond, uncond = self._call_back(callback, tensors, i, t, latents, cond, uncond)
                progress.update()
        return latents

    def _experts(self) -> dict[str, Expert]:
        """The transformers that this call runs, each with its turn."""
        names = self._request.experts
        turns = names if self._plan.turns else ()
        experts = {name: self._expert(turns or (name,)) for name in (turns[:1] or names)}
        return experts | {name: experts[turns[0]] for name in turns}

    def _expert(self, names: tuple[str, ...]) -> Expert:
        """One transformer's turn, or that of two that take turns in one execution."""

        def leave() -> None:
            for name in names:
                self._make_room(name)

        return Expert(
            names,
            self._pipe.part(names[0])[0],
            partial(self._transformer_plan, names),
            lambda: self._enter(names[0])[1],
            leave,
        )

    def _branch(self, uncond: np.ndarray | None, step: int) -> np.ndarray | None:
        """The unconditional embeddings, if this step has guidance."""
        if not self._pipe.do_classifier_free_guidance:
            return None
        if uncond is None:
            raise ValueError(
                f"Guidance was switched on before step {step}, but the call began without it and has no negative "
                "prompt. Begin with `guidance_scale` above 1, or return `negative_prompt_embeds` from the callback."
            )
        return uncond

    def _transformer_plan(self, names: tuple[str, ...], sizes: Sizes) -> Any:
        """The plan that was made for the call, or another under the same policy where a callback changed the texts'
        sizes."""
        plan = self._plan.components[names[0]]
        if sizes == self._planned_sizes:
            return plan.core
        networks = [self._pipe.part(name)[0] for name in names]
        images = self._request.images(len(sizes))
        return networks[0].plan_video(
            self._engine, *self._request.latent_shape[2:], sizes, plan.policy, images, *networks[1:]
        )

    def _call_back(
        self,
        callback: Callable[..., Any],
        tensors: list[str],
        step: int,
        timestep: Any,
        latents: np.ndarray,
        cond: np.ndarray,
        uncond: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Calls the user's function and takes over what it changed, whether it returned it or changed it in place.

        It gets copies of the embeddings, so that a change in place is seen.
        """
        current = {"latents": latents, "prompt_embeds": cond, "negative_prompt_embeds": uncond}
        given = {name: current[name] for name in tensors}
        for name in given:
            if name != "latents" and given[name] is not None:
                given[name] = given[name].copy()
        result = callback(self._pipe, step, timestep, dict(given))
        if result is not None and not isinstance(result, dict):
            raise TypeError(
                f"`callback_on_step_end` has to return a dict or None but returned a {type(result).__name__}."
            )
        changed = {**given, **(result or {})}
        checks.check_callback_inputs(changed)
        new = changed.get("latents", latents)
        if new is not latents:
            latents = checks.check_latents(new, self._request.latent_shape)
        width = self._pipe.main_transformer.config.text_dim
        embeds = []
        for name, old in (("prompt_embeds", cond), ("negative_prompt_embeds", uncond)):
            new = changed.get(name, old)
            if new is not None and new is not old:
                new = checks.check_embeds(new, name, self._request.batch, width, 1)
                new = old if old is not None and np.array_equal(new, old) else new
            embeds.append(old if new is None else new)
        return latents, embeds[0], embeds[1]

    def decode(self, latents: np.ndarray) -> Any:
        """Decodes latents to frames, written into the result as they come."""
        vae = self._pipe.vae
        plan, report = self._enter("vae")
        writer = FrameWriter(self._request)
        mean, inverse = self._latent_scale()
        for video, start, frames in vae.stream(self._engine, latents / inverse + mean, plan.core, report, plan.policy):
            writer.write(video, start, frames)
        self._make_room("vae")
        return writer.result()
