// A bot with telegraf. Beside the address of the API, everything is as its handbook has it.

import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Input, Markup, Telegraf, TelegramError } from "telegraf";
import { message } from "telegraf/filters";

const { BOT_TOKEN, TELEGRAM_API, WEBHOOK_PORT, WEBHOOK_SECRET } = process.env;

const bot = new Telegraf(BOT_TOKEN, { telegram: { apiRoot: TELEGRAM_API } });

bot.start((ctx) => ctx.reply(`Hello, ${ctx.from.first_name} ${ctx.from.last_name}!`));

bot.on(message("document"), async (ctx) => {
  const { caption, document } = ctx.message;
  const answer = await fetch(await ctx.telegram.getFileLink(document.file_id));
  const content = Buffer.from(await answer.arrayBuffer());
  await ctx.replyWithDocument(Input.fromBuffer(content, document.file_name), { caption: `${content.length} bytes: ${caption}` });
});

bot.on(message("text"), async (ctx) => {
  const echo = () => ctx.reply(ctx.message.text, Markup.inlineKeyboard([Markup.button.callback("Louder", "louder")]));
  try {
    await echo();
  } catch (error) {
    if (!(error instanceof TelegramError && error.parameters?.retry_after)) throw error;
    await sleep(error.parameters.retry_after * 1000);
    await echo();
  }
});

bot.action("louder", async (ctx) => {
  await ctx.answerCbQuery("Louder it is");
  await ctx.editMessageText(ctx.callbackQuery.message.text.toUpperCase());
});

let stop = (signal) => bot.stop(signal);
process.once("SIGINT", () => stop("SIGINT"));
process.once("SIGTERM", () => stop("SIGTERM"));

if (WEBHOOK_PORT) {
  // `bot.launch({ webhook })` would register an https:// address, whatever it is given.
  const server = createServer(bot.webhookCallback("/telegraf", { secretToken: WEBHOOK_SECRET }));
  stop = () => server.close();
  server.listen(Number(WEBHOOK_PORT), "127.0.0.1", () => bot.telegram.setWebhook(`http://127.0.0.1:${WEBHOOK_PORT}/telegraf`, { secret_token: WEBHOOK_SECRET }));
} else {
  await bot.launch();
}
