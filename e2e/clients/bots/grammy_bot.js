// A bot with grammY. Beside the address of the API, everything is as its handbook has it.

import { createServer } from "node:http";
import { autoRetry } from "@grammyjs/auto-retry";
import { Bot, InlineKeyboard, InputFile, webhookCallback } from "grammy";

const { BOT_TOKEN, TELEGRAM_API, WEBHOOK_PORT, WEBHOOK_SECRET } = process.env;

const bot = new Bot(BOT_TOKEN, { client: { apiRoot: TELEGRAM_API } });
bot.api.config.use(autoRetry());

bot.command("start", (ctx) => ctx.reply(`Hello, ${ctx.from.first_name} ${ctx.from.last_name}!`));

bot.on("message:document", async (ctx) => {
  const file = await ctx.getFile();
  const answer = await fetch(`${TELEGRAM_API}/file/bot${BOT_TOKEN}/${file.file_path}`);
  const content = new Uint8Array(await answer.arrayBuffer());
  const { caption, document } = ctx.message;
  await ctx.replyWithDocument(new InputFile(content, document.file_name), { caption: `${content.length} bytes: ${caption}` });
});

bot.on("message:text", (ctx) => ctx.reply(ctx.message.text, { reply_markup: new InlineKeyboard().text("Louder", "louder") }));

bot.callbackQuery("louder", async (ctx) => {
  await ctx.answerCallbackQuery("Louder it is");
  await ctx.editMessageText(ctx.callbackQuery.message.text.toUpperCase());
});

let stop = () => bot.stop();
process.once("SIGINT", () => stop());
process.once("SIGTERM", () => stop());

if (WEBHOOK_PORT) {
  const server = createServer(webhookCallback(bot, "http", { secretToken: WEBHOOK_SECRET }));
  stop = () => server.close();
  server.listen(Number(WEBHOOK_PORT), "127.0.0.1", () => bot.api.setWebhook(`http://127.0.0.1:${WEBHOOK_PORT}/grammy`, { secret_token: WEBHOOK_SECRET }));
} else {
  await bot.start();
}
